"""History folded again: the states that the stream would have left.

History is folded by the functions that fold the stream. Engines (a process, Spark) differ only in
how they bring the records of one visitor or item together. `training_rows` reads rows off history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from slipstream.contracts.positions import StreamInteraction, newest_topics
from slipstream.features import item, visitor
from slipstream.features.identity import MERGED_KEPT, Link
from slipstream.features.item import ItemState
from slipstream.features.visitor import Covisit, VisitorState, pairs


class StreamCovisit(NamedTuple):
    """A pair for its item's state, with the position of the record that made it."""

    source: str
    offset: int
    pair: Covisit


def in_order_of_arrival(records: Iterable[StreamInteraction]) -> list[StreamInteraction]:
    """The records by source and offset, and the sources merged by the times of receipt."""
    reached: dict[str, int] = {}
    ordered = []
    for record in sorted(records, key=lambda record: (record.source, record.offset)):
        reached[record.source] = max(record.interaction.received_at, reached.get(record.source, 0))
        ordered.append((reached[record.source], record))
    ordered.sort(key=lambda pair: (pair[0], pair[1].source, pair[1].offset))
    return [record for _, record in ordered]


def in_order_of_time(records: Iterable[StreamInteraction]) -> list[StreamInteraction]:
    """The records by event time; within a millisecond, in an order independent of arrival."""
    return sorted(records, key=_time_order)


def visitor_state(user_id: str, arrived: Sequence[StreamInteraction]) -> VisitorState:
    """The state of a user after all records of the user and of the visitors merged into it."""
    state = visitor.fold_all(None, (record.interaction for record in arrived))
    held: dict[str, dict[str, int]] = {}
    for source, offset, event in arrived:
        offsets = held.setdefault(event.user_id, {})
        offsets[source] = max(offset, offsets.get(source, -1))
    applied = newest_topics(held.pop(user_id, {}))
    merged = {name: newest_topics(offsets) for name, offsets in list(held.items())[-MERGED_KEPT:]}
    return replace(state, applied=applied, merged=merged)


def covisits(
    user_id: str, arrived: Sequence[StreamInteraction], links: Iterable[Link] = ()
) -> list[StreamCovisit]:
    """The pairs that these records made in the stream.

    A record was folded into the state of its visitor, or of the user that the visitor was linked to
    by then, and made pairs with the events of that state. `arrived` has the records of the user and
    its members, in order of arrival.
    """
    waiting = sorted(links, key=lambda link: link.timestamp)
    to: dict[str, str] = {}
    states: dict[str, VisitorState] = {}
    made: list[StreamCovisit] = []
    run: list[StreamInteraction] = []

    def owner(name: str) -> str:
        while name in to:
            name = to[name]
        return name

    def flush(last: bool = False) -> None:
        if not run:
            return
        user = owner(run[0].interaction.user_id)
        events = [record.interaction for record in run]
        for record, theirs in zip(run, pairs(states.get(user), events), strict=True):
            made.extend(StreamCovisit(record.source, record.offset, pair) for pair in theirs)
        if not last:
            states[user] = visitor.fold_all(states.get(user), events)
        run.clear()

    if not waiting:
        to = {
            record.interaction.user_id: user_id
            for record in arrived
            if record.interaction.user_id != user_id
        }
    for record in arrived:
        while waiting and waiting[0].timestamp <= record.interaction.received_at:
            flush()
            link = waiting.pop(0)
            into, gone = owner(link.user_id), states.pop(link.visitor_id, None)
            to[link.visitor_id] = into
            if gone is not None:
                states[into] = visitor.join(states[into], gone) if into in states else gone
        if run and owner(run[0].interaction.user_id) != owner(record.interaction.user_id):
            flush()
        run.append(record)
    flush(last=True)
    return made


def item_state(
    records: Iterable[StreamInteraction],
    covisits: Iterable[StreamCovisit],
    before: ItemState | None = None,
) -> ItemState:
    """The state of an item after these events and pairs.

    They are sorted first, so that the sums of floats do not depend on the order given.
    """
    records, covisits = in_order_of_time(records), sorted(covisits)
    state = item.fold_all(
        before, (record.interaction for record in records), (each.pair for each in covisits)
    )
    applied = dict(state.applied)
    for source, offset, _ in (*records, *covisits):
        applied[source] = max(offset, applied.get(source, -1))
    return replace(state, applied=newest_topics(applied))


def _time_order(record: StreamInteraction) -> tuple[int, str, str, int]:
    return record.interaction.timestamp, record.interaction.event_id, record.source, record.offset
