"""Values of visitors in Redis: read, replaced if unchanged, kept alive, and led on by markers.

The key of a merged visitor holds a marker to the visitor that it became part of, which may have
been merged itself. Writers follow every marker to its end. Readers follow proven ones: from a
page's marker they go to the visitor apart, who is the user once that is proven.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.page_visitors import apart_id
from slipstream.features import visitor
from slipstream.features.identity import has_taken_in, taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys
from slipstream.stores.layout import LayoutError, MergeMarker, StateCache

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
    """The visitor and those that its markers lead to, up to the one with the state to read.

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


log = get_logger(__name__)

# Recent visitors that need not be decoded when they are read again, of up to 35 KB each.
_REMEMBERED: Final = 5_000


class StoredVisitor(NamedTuple):
    """The content of a visitor's key, and its revision."""

    revision: bytes
    content: Content


class VisitorValues:
    """The keys of all visitors, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys, self._ttl_ms = client, scripts, keys, ttl_ms
        self._cache = StateCache(layout.decode_visitor_or_marker, _REMEMBERED)

    def read(self, visitor_ids: Sequence[str]) -> dict[str, StoredVisitor]:
        """The contents by visitor, without those that can't be decoded."""
        stored: dict[str, StoredVisitor] = {}
        keys = [self._keys.visitor(visitor_id) for visitor_id in visitor_ids]
        values = self._redis.mget(keys) if keys else []
        for visitor_id, key, value in zip(visitor_ids, keys, values, strict=True):
            try:
                stored[visitor_id] = self._decoded(key, value)
            except LayoutError as error:
                # Folding from nothing would lose counts unseen, and stopping would hold up all
                # other visitors.
                log.error(
                    "a state can't be read; its records are left out",
                    visitor=visitor_id,
                    reason=str(error),
                )
        return stored

    def read_one(self, visitor_id: str) -> StoredVisitor:
        """The content of one key. Raises `LayoutError` where it can't be decoded."""
        key = self._keys.visitor(visitor_id)
        return self._decoded(key, self._redis.get(key))

    def replace(
        self, visitor_id: str, revision: bytes, content: VisitorState | MergeMarker
    ) -> bool:
        """Write a content in place of that revision; whether the key still had it."""
        return self._scripts.replace([self._call(visitor_id, revision, content)])[0]

    def replace_all(self, states: Mapping[str, tuple[bytes, VisitorState]]) -> list[bool]:
        """Write states by visitor, each in place of its revision; which keys still had it."""
        return self._scripts.replace(
            [
                self._call(visitor_id, revision, state)
                for visitor_id, (revision, state) in states.items()
            ]
        )

    def settle(self) -> None:
        """Return when what was written so far stays, whichever node is lost (`Scripts.settle`)."""
        self._scripts.settle()

    def delete(self, visitor_id: str) -> None:
        self._redis.delete(self._keys.visitor(visitor_id))

    def delete_unchanged(self, revisions: Mapping[str, bytes]) -> None:
        """Delete the keys that still have the revision given, by visitor."""
        self._scripts.run(
            "delete_unchanged",
            [
                Call([self._keys.visitor(visitor_id)], [revision])
                for visitor_id, revision in revisions.items()
            ],
        )

    def keep_markers(self, used: Mapping[str, Mapping[str, StoredVisitor]]) -> None:
        """Renew markers that were followed, and point them to the end.

        That needs no settled markers in between: they have lost their states, which happens only to
        settled ones.

        Args:
            used: the markers by visitor, by the end that they led to.
        """
        if not used:
            return
        pipeline = self._redis.pipeline(transaction=False)
        indirect: list[Call] = []
        for end, markers in used.items():
            for visitor_id, (revision, content) in markers.items():
                if isinstance(content, MergeMarker) and content.to != end:
                    indirect.append(self._call(visitor_id, revision, replace(content, to=end)))
                else:
                    pipeline.pexpire(self._keys.visitor(visitor_id), self._ttl_ms)
        pipeline.execute()
        self._scripts.run("replace", indirect)

    def _decoded(self, key: str, value: bytes | None) -> StoredVisitor:
        return StoredVisitor(
            layout.revision_of(value), self._cache.state(key, value) if value else None
        )

    def _call(self, visitor_id: str, revision: bytes, content: VisitorState | MergeMarker) -> Call:
        new, key = layout.new_revision(), self._keys.visitor(visitor_id)
        encoded = (
            layout.encode_marker(content, new)
            if isinstance(content, MergeMarker)
            else layout.encode_visitor(content, new)
        )
        self._cache.remember(key, new, content)
        return Call([key], [revision, encoded, self._ttl_ms])
