"""Markers of merged visitors: where they lead, and the state that a reader gets.

The key of a merged visitor holds a marker to the visitor that it became part of, which may have
been merged itself.
"""

from collections.abc import Iterable, Mapping
from typing import Final

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


def state_to_read(contents: Mapping[str, Content], visitor_id: str) -> VisitorState | None:
    """The state for a reader of these contents: that at the end of the visitor's markers.

    It includes the states in markers that the end has not taken in yet.
    """
    path = path_of(contents, visitor_id)
    if not path:  # a circle that no writer has opened yet, or too long a path
        marker = contents.get(visitor_id)
        return marker.state if isinstance(marker, MergeMarker) else marker
    state = contents[path[-1]]
    assert not isinstance(state, MergeMarker)  # noqa: S101
    for mover in reversed(path[:-1]):
        marker = contents[mover]
        if (
            isinstance(marker, MergeMarker)
            and marker.state is not None
            and not has_taken_in(state, mover, marker.state)
        ):
            state = taken_in(state, mover, marker.state)
    return state
