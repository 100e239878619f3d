"""Markers of merged visitors: where they lead, and the state that a reader gets.

The key of a merged visitor holds a marker to the visitor that it became part of, which may have
been merged itself. Writers follow every marker to its end. Readers follow proven ones: from a
page's marker they go to the visitor apart, who is the user once that is proven.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from slipstream.contracts.page_visitors import apart_id
from slipstream.features import visitor
from slipstream.features.identity import has_taken_in, taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores.layout import MergeMarker

# Most markers that a reader follows. A writer follows all, and points those on its way to the end.
MOST_HOPS: Final = 8

# The content of a visitor's key.
Content = VisitorState | MergeMarker | None


def targets_of(contents: Iterable[Content]) -> set[str]:
    """The visitors that the markers among these point to."""
    return {content.to for content in contents if isinstance(content, MergeMarker)}


def path_of(contents: Mapping[str, Content], visitor_id: str) -> list[str]:
    """The visitor and those that its markers lead to, up to the end.

    It is empty when the end is not among `contents`, or the markers form a circle.
    """
    path = [visitor_id]
    while isinstance(marker := contents.get(path[-1]), MergeMarker):
        if marker.to in path or marker.to not in contents:
            return []
        path.append(marker.to)
    return path


def to_read(contents: Mapping[str, Content]) -> set[str]:
    """The visitors that a reader of these contents reads next."""
    return {
        _next(visitor_id, content)
        for visitor_id, content in contents.items()
        if isinstance(content, MergeMarker)
    } - contents.keys()


def reading_path(contents: Mapping[str, Content], visitor_id: str) -> list[str]:
    """The visitor and those whom a reader is led to, up to the one whose state it gets.

    It is empty in the same cases as `path_of`.
    """
    path = [visitor_id]
    while isinstance(marker := contents.get(path[-1]), MergeMarker):
        following = _next(path[-1], marker)
        if following in path or following not in contents:
            return []
        path.append(following)
    return path


def state_to_read(contents: Mapping[str, Content], visitor_id: str) -> VisitorState | None:
    """The state for a reader of these contents: that at the end of the reader's path.

    It includes the states in markers that the end has not taken in yet, and what a visitor did
    before a page linked it.
    """
    path = reading_path(contents, visitor_id)
    if not path:  # a circle that no writer has opened yet, or too long a path
        content = contents.get(visitor_id)
        return (content.own or content.state) if isinstance(content, MergeMarker) else content
    state = contents[path[-1]]
    assert not isinstance(state, MergeMarker)  # noqa: S101
    for mover in reversed(path[:-1]):
        marker = contents[mover]
        if not isinstance(marker, MergeMarker):
            continue
        if marker.own is not None:
            if path[-1] == apart_id(mover):  # else it is proven, and the user has it
                state = marker.own if state is None else visitor.join(state, marker.own)
        elif marker.state is not None and not has_taken_in(state, mover, marker.state):
            state = taken_in(state, mover, marker.state)
    return state


def _next(visitor_id: str, marker: MergeMarker) -> str:
    return marker.to if marker.own is None else apart_id(visitor_id)
