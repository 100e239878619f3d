"""Visitors' states in Redis, and how one visitor becomes part of another: exactly once, whatever
stops us in between.

A visitor A who turns out to be the user U is moved in steps, each of which replaces one value if
nobody was faster:

1. A's state becomes a marker `Moved(U, A's state)`: from now on nobody writes A's state, so it
can't grow unseen.
2. U takes the state in, and says so in `merged`. When U is a marker itself, this is done where its
markers end.
3. A's marker loses the state.

Whoever finds a marker that still has its state goes on with step 2; `merged` tells whether that has
happened. Records of A that come later are folded into U, judged by what `merged` says of A. Two
users of whom each is merged into the other at the same moment make a circle of markers; who finds
it gives the lowest of them its state back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import covisits, visitor
from slipstream.features.applied import advance, newest_topics
from slipstream.features.covisits import Covisit
from slipstream.features.identity import has_taken_in, taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.decoded import Decoded
from slipstream.stores.layout import Keys, LayoutError, Moved

log = get_logger(__name__)

# Readers follow so many markers. Writers follow all, and let what they come by point to the end.
MOST_HOPS: Final = 8
# So many visitors that were written lately need not be decoded when they are read again (up to 15
# KB each).
_REMEMBERED: Final = 5_000

# merged: it is now. known: it was before. other: the visitor is somebody else already. itself: the
# user is that visitor.
LinkOutcome = Literal["merged", "known", "other", "itself", "unreadable"]


class Known(NamedTuple):
    """What a visitor's key holds, and the revision of that."""

    revision: bytes
    content: VisitorState | Moved | None


@dataclass(slots=True)
class Folded:
    """What a visitor's state becomes by records that it did not hold yet, and the pairs that each
    of them makes.
    """

    state: VisitorState
    revision: bytes
    records: list[StreamInteraction]
    pairs: list[list[Covisit]]
    # the visitors whose records are among them, by their markers
    markers: dict[str, Known] = field(default_factory=dict)


class Visitors:
    """One writer's view of all visitors. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys, self._ttl_ms = client, scripts, keys, ttl_ms
        self._decoded = Decoded(layout.decode_known, _REMEMBERED)

    def fold(self, groups: Mapping[str, list[StreamInteraction]]) -> dict[str, Folded]:
        """The states after these records (by visitor, those of one source in order of offsets), by
        where each is kept. Nothing is written but merges that were under way. Records of a state
        that can't be read are left out.
        """
        known, ends = self._located(groups)
        members: dict[str, list[str]] = {}
        for visitor_id, end in ends.items():
            members.setdefault(end, []).append(visitor_id)
        folded: dict[str, Folded] = {}
        for end, theirs in members.items():
            state = known[end].content
            assert not isinstance(state, Moved)  # noqa: S101
            before = state or VisitorState()
            fresh: list[StreamInteraction] = []
            applied, merged = before.applied, before.merged
            for visitor_id in theirs:
                own = visitor_id == end
                after, new = advance(
                    applied if own else merged.get(visitor_id, {}), groups[visitor_id]
                )
                fresh += new
                if not new:
                    continue
                if own:
                    applied = after
                else:
                    merged = merged | {visitor_id: after}
            if not fresh:
                continue
            events = [record.interaction for record in fresh]
            after_all = visitor.fold_all(before, events)
            after_all.applied, after_all.merged = applied, merged
            markers = {visitor_id: known[visitor_id] for visitor_id in theirs if visitor_id != end}
            folded[end] = Folded(
                after_all, known[end].revision, fresh, covisits.pairs(before, events), markers
            )
        return folded

    def write(self, folded: Mapping[str, Folded]) -> list[str]:
        """Replace the states; the keys of those where another writer was faster."""
        done = self._scripts.replace(
            [self._call(end, one.revision, one.state) for end, one in folded.items()]
        )
        self._keep_markers({end: one.markers for end, one in folded.items() if one.markers})
        return [end for end, ok in zip(folded, done, strict=True) if not ok]

    def link(
        self, visitor_id: str, user_id: str, *, forget: bool = False
    ) -> tuple[LinkOutcome, dict[str, VisitorState]]:
        """Make the visitor part of the user, if it is nobody else yet. Also the user's state, when
        it has changed.

        `forget`: the user was erased after this was said, so what the visitor did until now is not
        taken over.
        """
        try:
            while True:
                end, way = self._end(user_id)
                here = self._read_one(visitor_id)
                if isinstance(here.content, Moved):
                    changed = self._finish(visitor_id)
                    end = self._end(user_id)[0]
                    outcome: LinkOutcome = "known" if self._end(visitor_id)[0] == end else "other"
                    return outcome, changed
                if visitor_id in way:
                    return "itself", {}
                theirs = here.content
                if forget and theirs is not None:
                    theirs = VisitorState(applied=theirs.applied, merged=theirs.merged)
                if self._replace(visitor_id, here.revision, Moved(user_id, theirs)):
                    return "merged", self._finish(visitor_id)
        except LayoutError as error:
            log.error(
                "a state can't be read; a link is left out",
                visitor=visitor_id,
                user=user_id,
                reason=str(error),
            )
            return "unreadable", {}

    def known_links(self, links: Sequence[tuple[str, str]]) -> list[bool]:
        """Which of these (visitor, user) have long happened, told in one round trip. The others are
        to be looked at.
        """
        known = self._read([visitor_id for visitor_id, _ in links])
        held = [
            known[visitor_id].content if visitor_id in known else None for visitor_id, _ in links
        ]
        return [
            content == Moved(user_id) for content, (_, user_id) in zip(held, links, strict=True)
        ]

    def erase(self, user_id: str, source: str, offset: int) -> list[str]:
        """Forget what is known of a user and of all who were merged into it, whose ids are given
        back; once for each record (its source and offset). Which records were applied stays known,
        so that reading them again brings nothing back.
        """
        while True:
            try:
                self._finish(user_id)
                end, way = self._end(user_id)
                known = self._read_one(end)
            except LayoutError as error:
                log.error(
                    "a state that is to be erased can't be read; it is deleted",
                    visitor=user_id,
                    reason=str(error),
                )
                self._redis.delete(self._keys.visitor(user_id))
                return [user_id]
            state = known.content
            if isinstance(state, Moved):
                continue
            if state is None:
                return way
            members = [*dict.fromkeys([*way, *state.merged])]
            if state.applied.get(source, -1) >= offset:
                return members
            applied = newest_topics({**state.applied, source: offset})
            if self._replace(
                end, known.revision, VisitorState(applied=applied, merged=state.merged)
            ):
                return members

    def _located(self, visitor_ids: Iterable[str]) -> tuple[dict[str, Known], dict[str, str]]:
        """What the visitors' keys hold, and the end of each one's markers; every merge on the way
        is finished. Without the visitors whose state can't be read.
        """
        asked, blocked = list(visitor_ids), set[str]()
        while True:
            known = self._read(asked)
            if not (further := further_of(content for _, content in known.values())):
                return known, {visitor_id: visitor_id for visitor_id in known}
            read = set(asked)
            while further := further - read:
                read |= further
                known |= self._read(list(further))
                further = further_of(content for _, content in known.values())
            waiting = {
                v for v, (_, it) in known.items() if isinstance(it, Moved) and it.state is not None
            } - blocked
            for visitor_id in waiting:
                try:
                    self._finish(visitor_id)
                except LayoutError as error:
                    log.error(
                        "a state can't be read; a merge waits",
                        visitor=visitor_id,
                        reason=str(error),
                    )
                    blocked.add(visitor_id)
            if not waiting:
                contents = {visitor_id: content for visitor_id, (_, content) in known.items()}
                ways = {
                    visitor_id: way_of(contents, visitor_id)
                    for visitor_id in asked
                    if visitor_id in known
                }
                return known, {
                    visitor_id: way[-1]
                    for visitor_id, way in ways.items()
                    if way and not blocked.intersection(way)
                }

    def _finish(self, visitor_id: str) -> dict[str, VisitorState]:
        """Take the visitor's state, and every other that waits on the way of its markers, in where
        they end.
        """
        changed: dict[str, VisitorState] = {}
        while True:
            end, way = self._end(visitor_id)
            markers = {one: self._read_one(one) for one in way}
            waiting = None
            for mover in reversed(
                way[:-1]
            ):  # from the end: what was merged into a mover is told by the mover's own state
                marker = markers[mover].content
                if isinstance(marker, Moved) and marker.state is not None:
                    waiting = mover, marker.state, marker.to
                    break
            if waiting is None:
                return changed
            mover, theirs, to = waiting
            root = markers[end]
            if isinstance(root.content, Moved) or not all(
                isinstance(markers[one].content, Moved) for one in way[:-1]
            ):
                continue
            if not has_taken_in(root.content, mover, theirs):
                state = taken_in(root.content, mover, theirs)
                if not self._replace(end, root.revision, state):
                    continue
                changed[end] = state
            self._replace(mover, markers[mover].revision, Moved(to))

    def _end(self, visitor_id: str) -> tuple[str, list[str]]:
        """Where the visitor's markers end, and all on the way, from the visitor to the end."""
        while True:
            way, known = [visitor_id], {visitor_id: self._read_one(visitor_id)}
            while isinstance(marker := known[way[-1]].content, Moved) and marker.to not in known:
                known[marker.to] = self._read_one(marker.to)
                way.append(marker.to)
            if not isinstance(marker, Moved):
                return way[-1], way
            self._open_circle({one: known[one] for one in way[way.index(marker.to) :]})

    def _open_circle(self, circle: Mapping[str, Known]) -> None:
        """Give one of these markers its state back. All who see the circle choose the same; one who
        closed it has its state, since there was no end that could take it in.
        """
        frozen = {
            v: (known.revision, c.state)
            for v, known in circle.items()
            if isinstance(c := known.content, Moved) and c.state
        }
        lowest = min(frozen or circle)
        revision, state = frozen.get(lowest, (circle[lowest].revision, VisitorState()))
        log.warning(
            "visitors were merged in a circle; one stays", visitors=sorted(circle), stays=lowest
        )
        self._replace(lowest, revision, state)

    def _keep_markers(self, used: Mapping[str, Mapping[str, Known]]) -> None:
        """Let markers that were used live as long as the states, and point to the end."""
        if not used:
            return
        pipeline = self._redis.pipeline(transaction=False)
        longer: list[Call] = []
        for end, markers in used.items():
            for visitor_id, (revision, content) in markers.items():
                if isinstance(content, Moved) and content.to != end:
                    longer.append(self._call(visitor_id, revision, Moved(end)))
                else:
                    pipeline.pexpire(self._keys.visitor(visitor_id), self._ttl_ms)
        pipeline.execute()
        self._scripts.run("replace", longer)

    def _read(self, visitor_ids: Sequence[str]) -> dict[str, Known]:
        """What the visitors' keys hold, without those that can't be read."""
        known: dict[str, Known] = {}
        keys = [self._keys.visitor(visitor_id) for visitor_id in visitor_ids]
        values = self._redis.mget(keys) if keys else []
        for visitor_id, key, value in zip(visitor_ids, keys, values, strict=True):
            try:
                known[visitor_id] = Known(
                    layout.revision_of(value), self._decoded.state(key, value) if value else None
                )
            except LayoutError as error:
                # Folding from nothing would lose counts unseen, and stopping would hold up
                # everybody else.
                log.error(
                    "a state can't be read; its records are left out",
                    visitor=visitor_id,
                    reason=str(error),
                )
        return known

    def _read_one(self, visitor_id: str) -> Known:
        key = self._keys.visitor(visitor_id)
        value = self._redis.get(key)
        return Known(layout.revision_of(value), self._decoded.state(key, value) if value else None)

    def _replace(self, visitor_id: str, revision: bytes, content: VisitorState | Moved) -> bool:
        return self._scripts.replace([self._call(visitor_id, revision, content)])[0]

    def _call(self, visitor_id: str, revision: bytes, content: VisitorState | Moved) -> Call:
        new, key = layout.new_revision(), self._keys.visitor(visitor_id)
        encoded = (
            layout.encode_moved(content, new)
            if isinstance(content, Moved)
            else layout.encode_visitor(content, new)
        )
        self._decoded.remember(key, new, content)
        return Call([key], [revision, encoded, self._ttl_ms])


def further_of(contents: Iterable[VisitorState | Moved | None]) -> set[str]:
    """Whom the markers among these point to."""
    return {content.to for content in contents if isinstance(content, Moved)}


def way_of(contents: Mapping[str, VisitorState | Moved | None], visitor_id: str) -> list[str]:
    """The visitor and whom its markers lead to, up to the end; empty when that is not among these,
    or there is no end.
    """
    way = [visitor_id]
    while isinstance(marker := contents.get(way[-1]), Moved):
        if marker.to in way or marker.to not in contents:
            return []
        way.append(marker.to)
    return way


def as_read(
    contents: Mapping[str, VisitorState | Moved | None], visitor_id: str
) -> VisitorState | None:
    """The state that a reader is given, who has read these: where the markers end, with what is
    still waiting to be taken in.
    """
    way = way_of(contents, visitor_id)
    if not way:  # a circle that nobody has opened yet, or too long a way
        marker = contents.get(visitor_id)
        return marker.state if isinstance(marker, Moved) else marker
    state = contents[way[-1]]
    assert not isinstance(state, Moved)  # noqa: S101
    for mover in reversed(way[:-1]):
        marker = contents[mover]
        if (
            isinstance(marker, Moved)
            and marker.state is not None
            and not has_taken_in(state, mover, marker.state)
        ):
            state = taken_in(state, mover, marker.state)
    return state
