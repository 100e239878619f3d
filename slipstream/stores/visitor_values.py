"""Values of visitors in Redis: read, replaced if unchanged, led on by markers, and merged.

The key of a merged visitor holds a marker to the visitor that it became part of, which may have
been merged itself. Writers follow every marker to its end. Readers follow proven ones: from a
page's marker they go to the visitor apart, who is the user once that is proven.

A visitor becomes part of a user exactly once, despite crashes. A visitor A who turns out to be the
user U is merged in three steps. Each replaces one value if it is unchanged:

1. A's state becomes a marker `MergeMarker(U, A's state)`. From now on no writer changes A's state,
   so it can't grow unseen.
2. U takes the state in and records that in `merged`. When U is a marker itself, this is done where
   its markers end.
3. A's marker loses the state.

A writer that comes upon a marker with a state goes on with step 2; `merged` says whether that has
happened. Later records of A are folded into U, judged by the offsets that `merged` has for A. Two
users that are merged into each other at the same moment make a circle of markers. The writer that
comes upon it gives the lowest id its state back.

A page's word alone makes a marker that keeps a copy of A's state for those who read A, and writers
treat it like any other.

On a cluster each step is settled before the next one, whoever did it: a node that lost the marker
alone would let A grow next to U.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.page_visitors import apart_id, has_apart
from slipstream.contracts.vocabulary import UNLEARNED_TTL_MS
from slipstream.features import visitor
from slipstream.features.identity import has_taken_in, taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.layout import Keys, LayoutError, MergeMarker, StateCache

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

    def replace_all(
        self, states: Mapping[str, tuple[bytes, VisitorState]], short: Collection[str] = ()
    ) -> list[bool]:
        """Write states by visitor, each in place of its revision; which keys still had it.

        Those of `short` have only events that nothing learns from, and live for a short time.
        """
        return self._scripts.replace(
            [
                self._call(visitor_id, revision, state, short=visitor_id in short)
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
        settled ones. `used` has the markers by visitor, by the end that they led to.
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

    def _call(
        self,
        visitor_id: str,
        revision: bytes,
        content: VisitorState | MergeMarker,
        *,
        short: bool = False,
    ) -> Call:
        new, key = layout.new_revision(), self._keys.visitor(visitor_id)
        encoded = (
            layout.encode_marker(content, new)
            if isinstance(content, MergeMarker)
            else layout.encode_visitor(content, new)
        )
        self._cache.remember(key, new, content)
        life = [min(UNLEARNED_TTL_MS, self._ttl_ms), 1] if short else [self._ttl_ms]
        return Call([key], [revision, encoded, *life])


# merged: it is now. known: it was before. other: the visitor is another user already. itself: the
# user is that visitor. refused: a page links one who has been a user. unreadable: a state can't be
# decoded.
LinkOutcome = Literal["merged", "known", "other", "itself", "refused", "unreadable"]
WITHOUT_EFFECT: Final = frozenset({"refused", "other", "itself"})


class Merges:
    """One writer's merges. Methods raise what Redis and its client raise."""

    def __init__(self, values: VisitorValues) -> None:
        self._values = values

    def link(
        self,
        visitor_id: str,
        user_id: str,
        *,
        only_anonymous: bool = False,
        is_user: bool = False,
        proven: bool = True,
    ) -> tuple[LinkOutcome, dict[str, VisitorState]]:
        """Merge the visitor into the user, unless it is another user already. Returns the outcome,
        and the users' states that have changed.

        Args:
            only_anonymous: refuse a visitor who has been a user.
            is_user: the visitor has been a user, by what the state does not hold.
            proven: whether readers of the visitor get the user's state from now on.
        """
        try:
            while True:
                end, path = self.end(user_id)
                stored = self._values.read_one(visitor_id)
                if isinstance(stored.content, MergeMarker):
                    changed = self.finish(visitor_id)
                    end = self.end(user_id)[0]
                    outcome: LinkOutcome = "known" if self.end(visitor_id)[0] == end else "other"
                    return outcome, changed
                if visitor_id in path:
                    return "itself", {}
                state = stored.content
                if only_anonymous and (is_user or (state is not None and state.is_user)):
                    return "refused", {}
                # The user learns of a visitor without any history, too: from now on it is a user,
                # and the visitor is among those who are erased with it.
                whole = state or VisitorState()
                marker = MergeMarker(user_id, whole, None if proven else whole)
                if self._values.replace(visitor_id, stored.revision, marker):
                    return "merged", self.finish(visitor_id)
        except LayoutError as error:
            log.error(
                "a state can't be read; a link is left out",
                visitor=visitor_id,
                user=user_id,
                reason=str(error),
            )
            return "unreadable", {}

    def lead_apart(self, visitor_id: str, user_id: str) -> dict[str, VisitorState]:
        """Merge the visitor apart from this one into the user; returns the states that changed.

        The user's state does not name one without history: whoever is erased, it goes along.
        """
        apart = apart_id(visitor_id)
        while has_apart(visitor_id):
            stored = self._values.read_one(apart)
            if stored.content is not None:
                return self.link(apart, user_id)[1]
            if self._values.replace(apart, stored.revision, MergeMarker(user_id)):
                break
        return {}

    def are_done(self, links: Sequence[tuple[str, str, bool]]) -> list[bool]:
        """Whether each of these (visitor, user, proven) is certainly done, in one round trip."""
        movers = [[name, apart_id(name)] if proven else [name] for name, _, proven in links]
        stored = self._values.read([each for movers_of in movers for each in movers_of])
        settled = {
            (name, content.to)
            for name, (_, content) in stored.items()
            if isinstance(content, MergeMarker) and content.state is None
        }
        return [
            all((each, user_id) in settled for each in movers_of)
            for movers_of, (_, user_id, _) in zip(movers, links, strict=True)
        ]

    def locate(self, visitor_ids: Iterable[str]) -> tuple[dict[str, StoredVisitor], dict[str, str]]:
        """The contents of the visitors' keys, and the end of each visitor's markers.

        Merges on the way are finished. Visitors with an undecodable state are left out.
        """
        asked, blocked = list(visitor_ids), set[str]()
        while True:
            stored = self._values.read(asked)
            if not (further := targets_of(content for _, content in stored.values())):
                return stored, {visitor_id: visitor_id for visitor_id in stored}
            read = set(asked)
            while further := further - read:
                read |= further
                stored |= self._values.read(list(further))
                further = targets_of(content for _, content in stored.values())
            waiting = {
                visitor_id
                for visitor_id, (_, content) in stored.items()
                if isinstance(content, MergeMarker) and content.state is not None
            } - blocked
            for visitor_id in waiting:
                try:
                    self.finish(visitor_id)
                except LayoutError as error:
                    log.error(
                        "a state can't be read; a merge waits",
                        visitor=visitor_id,
                        reason=str(error),
                    )
                    blocked.add(visitor_id)
            if not waiting:
                contents = {visitor_id: content for visitor_id, (_, content) in stored.items()}
                paths = {
                    visitor_id: path_of(contents, visitor_id)
                    for visitor_id in asked
                    if visitor_id in stored
                }
                return stored, {
                    visitor_id: path[-1]
                    for visitor_id, path in paths.items()
                    if path and not blocked.intersection(path)
                }

    def end(self, visitor_id: str) -> tuple[str, list[str]]:
        """The end of the visitor's markers, and the path from the visitor to the end."""
        while True:
            path, stored = [visitor_id], {visitor_id: self._values.read_one(visitor_id)}
            while (
                isinstance(marker := stored[path[-1]].content, MergeMarker)
                and marker.to not in stored
            ):
                stored[marker.to] = self._values.read_one(marker.to)
                path.append(marker.to)
            if not isinstance(marker, MergeMarker):
                return path[-1], path
            self._open_circle({member: stored[member] for member in path[path.index(marker.to) :]})

    def finish(self, visitor_id: str) -> dict[str, VisitorState]:
        """Take the states in the visitor's markers in where they end; the changed states."""
        changed: dict[str, VisitorState] = {}
        while True:
            end, path = self.end(visitor_id)
            stored = {member: self._values.read_one(member) for member in path}
            waiting = None
            # From the end: the state of a marker names the visitors that were merged into it.
            for mover in reversed(path[:-1]):
                marker = stored[mover].content
                if isinstance(marker, MergeMarker) and marker.state is not None:
                    waiting = mover, marker.state, replace(marker, state=None)
                    break
            if waiting is None:
                return changed
            mover, theirs, settled = waiting
            root = stored[end]
            if isinstance(root.content, MergeMarker) or not all(
                isinstance(stored[member].content, MergeMarker) for member in path[:-1]
            ):
                continue
            if not has_taken_in(root.content, mover, theirs):
                state = taken_in(root.content, mover, theirs)
                self._values.settle()
                if not self._values.replace(end, root.revision, state):
                    continue
                changed[end] = state
            self._values.settle()
            self._values.replace(mover, stored[mover].revision, settled)

    def _open_circle(self, circle: Mapping[str, StoredVisitor]) -> None:
        """Give one of these markers its state back.

        All writers that see the circle choose the same marker. The marker that closed the circle
        still has its state, since there was no end that could take it in.
        """
        frozen = {
            visitor_id: (stored.revision, marker.state)
            for visitor_id, stored in circle.items()
            if isinstance(marker := stored.content, MergeMarker) and marker.state
        }
        lowest = min(frozen or circle)
        revision, state = frozen.get(lowest, (circle[lowest].revision, VisitorState()))
        log.warning(
            "visitors were merged in a circle; one stays", visitors=sorted(circle), stays=lowest
        )
        self._values.settle()
        self._values.replace(lowest, revision, state)
