"""The last step of a rebuild: what the consumer wrote to meanwhile.

A state that holds records which the lake did not have at the rebuild's version was left as it is.
Here consumers are asked to hold for some seconds, in which the lake comes to where they are; the
rows since are folded on top, and the states replaced. Every replacement is judged as before, so a
consumer that does not hold costs another round, never a record.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from services.features.history.local_engine import Trending
from services.features.history.rows import FOLDED_COLUMNS, placed
from services.features.history.snapshot import Snapshot
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import covisits, history, visitor
from slipstream.features.history import StreamCovisit
from slipstream.features.identity import taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores.rebuild import LastOffset, Rebuild, RebuiltItem, RebuiltVisitor

HOLD_S = 30.0
ROUNDS = 4
_POLL_S: Final = 0.1


@dataclass
class Behind:
    """States of a snapshot that could not be written, since the online store was ahead of it."""

    visitors: list[RebuiltVisitor] = field(default_factory=list)
    items: list[RebuiltItem] = field(default_factory=list)
    trending: Trending | None = None

    def __bool__(self) -> bool:
        return bool(self.visitors or self.items or self.trending)


def catch_up(
    before: Snapshot, behind: Behind, rebuild_for: Callable[[LastOffset], Rebuild]
) -> Behind:
    """Bring what is behind up to date and write it; what could still not be written after a few
    rounds.
    """
    for _ in range(ROUNDS):
        if not behind:
            break
        waiting = rebuild_for(before.covered)
        try:
            waiting.hold(HOLD_S)
            after = _arrived(before, waiting, HOLD_S / 2)
            writing = rebuild_for(after.covered)
            behind = _written(advanced(before, after, behind, waiting), writing)
            writing.close()
            before = after
        finally:
            waiting.release()
            waiting.close()
    return behind


def advanced(before: Snapshot, after: Snapshot, behind: Behind, present: Rebuild) -> Behind:
    """The same states as of a later snapshot."""
    fresh = _fresh(before, after)
    by_user: dict[str, list[StreamInteraction]] = {}
    for user_id, record in fresh:
        by_user.setdefault(user_id, []).append(record)
    arrived = {
        user_id: history.in_order_of_arrival(records) for user_id, records in by_user.items()
    }

    held = _joined(before, after, behind.visitors)
    others = [user_id for user_id in arrived if user_id not in held]
    seen = dict(zip(others, present.states(others), strict=True))
    told: dict[str, list[StreamCovisit]] = {}
    visitors: list[RebuiltVisitor] = []
    for user_id, records in arrived.items():
        events = [record.interaction for record in records]
        start = held[user_id].state if user_id in held else _without(seen[user_id], records)
        for record, pairs in zip(records, covisits.pairs(start, events), strict=True):
            for pair in pairs:
                told.setdefault(pair.item_id, []).append(
                    StreamCovisit(record.source, record.offset, pair)
                )
    for user_id, one in held.items():
        records = arrived.get(user_id, [])
        state = visitor.fold_all(one.state, (record.interaction for record in records))
        own = history.visitor_state(user_id, records)
        applied = {**state.applied, **own.applied, **dict(after.known.erased(user_id))}
        merged = {name: dict(offsets) for name, offsets in state.merged.items()}
        for name, offsets in own.merged.items():
            merged[name] = {**merged.get(name, {}), **offsets}
        last = max([one.last_received, *(record.interaction.received_at for record in records)])
        state = replace(state, applied=applied, merged=merged)
        visitors.append(RebuiltVisitor(user_id, state, after.known.members(user_id), last))

    on_item: dict[str, list[StreamInteraction]] = {}
    for _, record in fresh:
        if record.interaction.item_id is not None:
            on_item.setdefault(record.interaction.item_id, []).append(record)
    items = [
        _item(one, on_item.get(one.item_id, []), told.get(one.item_id, [])) for one in behind.items
    ]
    if behind.trending is not None:
        behind.trending.add(
            [record for _, record in fresh if record.interaction.item_id is None], None
        )
        for item_id, records in on_item.items():
            behind.trending.add(records, item_id)
    return Behind(visitors, items, behind.trending)


def _arrived(before: Snapshot, rebuild: Rebuild, timeout_s: float) -> Snapshot:
    """A snapshot that has all that was applied, or the newest after so long."""
    deadline = time.monotonic() + timeout_s
    while True:
        after = before.later()
        ahead = {
            source: offset
            for source, offset in rebuild.trending_applied().items()
            if offset > after.covered(source)
        }
        if not ahead or time.monotonic() >= deadline:
            return after
        time.sleep(_POLL_S)


def _fresh(before: Snapshot, after: Snapshot) -> list[tuple[str, StreamInteraction]]:
    """The records that the earlier snapshot did not have, and whose each is."""
    covered, found = before.covered, list[tuple[str, StreamInteraction]]()
    for batch in after.records(since=before):
        columns = batch.select([*FOLDED_COLUMNS, "visitor"]).to_pydict()
        for user_id, record in zip(columns["visitor"], placed(columns), strict=True):
            if record.offset > covered(record.source):
                found.append((user_id, record))
    return found


def _joined(
    before: Snapshot, after: Snapshot, behind: Iterable[RebuiltVisitor]
) -> dict[str, RebuiltVisitor]:
    """By who each visitor is in the later snapshot: without what was erased in between, those
    joined that were linked.
    """
    held: dict[str, RebuiltVisitor] = {}
    for one in sorted(
        behind, key=lambda one: after.known.identities.resolve(one.user_id) != one.user_id
    ):
        user_id = after.known.identities.resolve(one.user_id)
        erased = after.known.erased(user_id) != before.known.erased(user_id)
        if erased:
            one = one._replace(
                state=VisitorState(applied=one.state.applied, merged=one.state.merged)
            )
        if user_id == one.user_id:
            held[user_id] = one
        elif user_id in held:
            root = held[user_id]
            last = max(root.last_received, one.last_received)
            held[user_id] = root._replace(
                state=taken_in(root.state, one.user_id, one.state), last_received=last
            )
        # Else the user's own state was written before the link came: the consumer joins the two, as
        # it does with all others.
    return held


def _without(present: VisitorState | None, records: list[StreamInteraction]) -> VisitorState | None:
    """A visitor's state with a sequence as it was before these records, as far as it can still be
    told.
    """
    if present is None:
        return None
    theirs = {
        (record.interaction.item_id, record.interaction.event_type, record.interaction.timestamp)
        for record in records
    }
    return replace(
        present, sequence=[event for event in present.sequence if event[:3] not in theirs]
    )


def _item(
    one: RebuiltItem, records: list[StreamInteraction], told: list[StreamCovisit]
) -> RebuiltItem:
    last = max([one.last_received, *(record.interaction.received_at for record in records)])
    return RebuiltItem(one.item_id, history.item_state(records, told, one.state), last)


def _written(behind: Behind, rebuild: Rebuild) -> Behind:
    trending = behind.trending
    if trending is not None and rebuild.trending(trending.by_item(), trending.state):
        trending = None
    return Behind(rebuild.visitors(behind.visitors), rebuild.items(behind.items), trending)
