"""History, folded by the functions that fold the stream: states as the stream would have left them,
and training rows.

A training row is an event on an item, and the features of all views as they were strictly before
it: by event time, of the visitor whom the event is known to be today, and without any event of the
same millisecond. So no row knows its own label, or anything later. Runners (a process, Spark)
differ in how they bring the records of one visitor or item together, in nothing else.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final, NamedTuple

from slipstream.contracts.positions import StreamInteraction, split_source
from slipstream.features import item, visitor
from slipstream.features.affinity import PRICE, Attributes, affinity_features
from slipstream.features.applied import newest_topics
from slipstream.features.covisits import Covisit, pairs
from slipstream.features.identity import MERGED_KEPT, Link
from slipstream.features.item import ItemState, item_features
from slipstream.features.request import RequestContext, request_features
from slipstream.features.session import session_features
from slipstream.features.views import (
    AFFINITY_ATTRIBUTES,
    ITEM,
    REQUEST,
    SESSION,
    VISITOR,
    Feature,
    affinity_view,
)
from slipstream.features.visitor import VisitorState, visitor_view

Asked = Callable[[StreamInteraction], bool]
# What a row says of its event: the visitor (as known today) and what it did; and where the event
# stands in the lake.
EVENT_COLUMNS: Final = (
    "user_id",
    "event_id",
    "timestamp",
    "item_id",
    "event_type",
    "value",
    "topic_id",
    "partition",
    "offset",
)


class Covisited(NamedTuple):
    """A pair for its item's state, with the record that told it."""

    source: str
    offset: int
    pair: Covisit


class Catalogue:
    """What was known of items, and when."""

    def __init__(
        self,
        records: Iterable[tuple[str, int, Attributes]],
        attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
    ) -> None:
        """Of (item, time in ms, attributes), in the order in which they replace each other where
        times are equal.
        """
        self._wanted = {*attributes, PRICE}
        self._known: dict[str, list[tuple[int, Attributes]]] = {}
        for item_id, timestamp, known in records:
            held = {name: value for name, value in known.items() if name in self._wanted}
            self._known.setdefault(item_id, []).append((timestamp, held))
        for versions in self._known.values():
            versions.sort(key=itemgetter(0))

    def before(self, now_ms: int) -> Mapping[str, Attributes]:
        """Items by id, as the newest record from before that moment says. An item that was
        described only later has its first description: the catalogue of a shop often comes after
        its history, and online a late entry counts, too.
        """
        return _Known(self._known, now_ms)


class _Known(Mapping[str, Attributes]):
    def __init__(self, known: Mapping[str, list[tuple[int, Attributes]]], now_ms: int) -> None:
        self._all, self._now_ms = known, now_ms

    def __getitem__(self, item_id: str) -> Attributes:
        versions = self._all[item_id]
        return versions[max(0, bisect_left(versions, self._now_ms, key=itemgetter(0)) - 1)][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def in_order_of_arrival(records: Iterable[StreamInteraction]) -> list[StreamInteraction]:
    """Each source by its offsets, sources among each other by when the records were received."""
    reached: dict[str, int] = {}
    ordered = []
    for record in sorted(records, key=lambda record: (record.source, record.offset)):
        reached[record.source] = max(record.interaction.received_at, reached.get(record.source, 0))
        ordered.append((reached[record.source], record))
    ordered.sort(key=lambda pair: (pair[0], pair[1].source, pair[1].offset))
    return [record for _, record in ordered]


def in_order_of_time(records: Iterable[StreamInteraction]) -> list[StreamInteraction]:
    """By event time, and events of one moment in an order that their arrival does not matter for."""
    return sorted(records, key=_time_order)


def visitor_state(user_id: str, arrived: Sequence[StreamInteraction]) -> VisitorState:
    """The state of a user after all records of the user and of the visitors who turned out to be
    the user.
    """
    state = visitor.fold_all(None, (record.interaction for record in arrived))
    held: dict[str, dict[str, int]] = {}
    for source, offset, event in arrived:
        offsets = held.setdefault(event.user_id, {})
        offsets[source] = max(offset, offsets.get(source, -1))
    own = newest_topics(held.pop(user_id, {}))
    merged = {name: newest_topics(offsets) for name, offsets in list(held.items())[-MERGED_KEPT:]}
    return replace(state, applied=own, merged=merged)


def covisits(
    user_id: str, arrived: Sequence[StreamInteraction], links: Iterable[Link] = ()
) -> list[Covisited]:
    """The pairs that these records told, each judged by the state that it was folded into: that of
    the visitor it names, or of whom that visitor had been linked to when it came. `links` are the
    ones that lead to this user.
    """
    waiting = sorted(links, key=lambda link: link.timestamp)
    to: dict[str, str] = {}
    states: dict[str, VisitorState] = {}
    told: list[Covisited] = []
    run: list[StreamInteraction] = []

    def owner(name: str) -> str:
        while name in to:
            name = to[name]
        return name

    def tell(last: bool = False) -> None:
        if not run:
            return
        whose = owner(run[0].interaction.user_id)
        events = [record.interaction for record in run]
        for record, made in zip(run, pairs(states.get(whose), events), strict=True):
            told.extend(Covisited(record.source, record.offset, pair) for pair in made)
        if not last:
            states[whose] = visitor.fold_all(states.get(whose), events)
        run.clear()

    if not waiting:
        to = {
            record.interaction.user_id: user_id
            for record in arrived
            if record.interaction.user_id != user_id
        }
    for record in arrived:
        while waiting and waiting[0].timestamp <= record.interaction.received_at:
            tell()
            link = waiting.pop(0)
            into, gone = owner(link.user_id), states.pop(link.visitor_id, None)
            to[link.visitor_id] = into
            if gone is not None:
                states[into] = visitor.join(states[into], gone) if into in states else gone
        if run and owner(run[0].interaction.user_id) != owner(record.interaction.user_id):
            tell()
        run.append(record)
    tell(last=True)
    return told


def item_state(
    records: Iterable[StreamInteraction], told: Iterable[Covisited], before: ItemState | None = None
) -> ItemState:
    """The state of an item after these events and pairs; sums of floats in one order, in whichever
    they are given.
    """
    records, told = in_order_of_time(records), sorted(told)
    state = item.fold_all(
        before, (record.interaction for record in records), (each.pair for each in told)
    )
    applied = dict(state.applied)
    for source, offset, _ in (*records, *told):
        applied[source] = max(offset, applied.get(source, -1))
    return replace(state, applied=newest_topics(applied))


def visitor_rows(
    user_id: str,
    records: Iterable[StreamInteraction],
    asked: Asked,
    catalogue: Catalogue,
    attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
) -> Iterator[dict[str, Any]]:
    """The asked moments of one visitor in the order of time, with all features but those of the
    item itself.
    """
    for record, state in moments(records, asked):
        now_ms, item_id = record.interaction.timestamp, record.interaction.item_id or ""
        known = catalogue.before(now_ms)
        context = RequestContext(now_ms, item_id)
        row = _event(user_id, record)
        _put(row, VISITOR.name, visitor_view(state, now_ms, VISITOR.feature_names))
        _put(row, SESSION.name, session_features(state, now_ms))
        _put(
            row,
            affinity_view(attributes).name,
            affinity_features(state.sequence, known, now_ms, attributes),
        )
        _put(
            row,
            REQUEST.name,
            request_features(context, state, known, attributes[0] if attributes else ""),
        )
        yield row


def item_rows(records: Iterable[StreamInteraction], asked: Asked) -> Iterator[dict[str, Any]]:
    """The asked moments among the events of one item in the order of time: their places, and the
    item's features.
    """
    for record, state in _before(records, asked, None, item.fold_all):
        topic_id, partition = split_source(record.source)
        row = {"topic_id": topic_id, "partition": partition, "offset": record.offset}
        _put(row, ITEM.name, item_features(state, record.interaction.timestamp))
        yield row


def moments(
    records: Iterable[StreamInteraction], asked: Asked
) -> Iterator[tuple[StreamInteraction, VisitorState]]:
    """The asked events of one visitor in the order of time, each with the state strictly before it."""
    for record, state in _before(records, asked, VisitorState(), visitor.fold_all):
        yield record, state or VisitorState()


def training_rows(
    visitors: Mapping[str, Sequence[StreamInteraction]],
    asked: Asked,
    catalogue: Catalogue | None = None,
    attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
) -> list[dict[str, Any]]:
    """Training rows of a history that fits into memory: the records of each visitor, by who the
    visitor is known to be.
    """
    catalogue = catalogue or Catalogue(())
    by_item: dict[str, list[StreamInteraction]] = {}
    for records in visitors.values():
        for record in records:
            if record.interaction.item_id is not None:
                by_item.setdefault(record.interaction.item_id, []).append(record)
    of_items = {
        _place(row): row for records in by_item.values() for row in item_rows(records, asked)
    }
    return [
        row | of_items[_place(row)]
        for user_id in sorted(visitors)
        for row in visitor_rows(user_id, visitors[user_id], asked, catalogue, attributes)
    ]


def feature_columns(attributes: Sequence[str] = AFFINITY_ATTRIBUTES) -> dict[str, Feature]:
    """The columns of a training row after those of the event, in order: "<view>__<feature>".

    The neighbours of an item are not among them: which pairs its state keeps depends on the order
    in which events arrived.
    """
    views = (VISITOR, SESSION, affinity_view(attributes), REQUEST, ITEM)
    return {f"{view.name}__{feature.name}": feature for view in views for feature in view.fields}


def asks_for(since_ms: int | None = None, until_ms: int | None = None) -> Asked:
    """Which events become rows: those on an item, at or after `since_ms` and before `until_ms`."""
    first, end = since_ms or 0, until_ms if until_ms is not None else 2**62

    def asked(record: StreamInteraction) -> bool:
        return (
            record.interaction.item_id is not None and first <= record.interaction.timestamp < end
        )

    return asked


def _before(
    records: Iterable[StreamInteraction], asked: Asked, state: Any, fold_all: Callable[..., Any]
) -> Iterator[tuple[StreamInteraction, Any]]:
    waiting: list[StreamInteraction] = []
    for record in in_order_of_time(records):
        if asked(record):
            now_ms = record.interaction.timestamp
            if waiting and waiting[0].interaction.timestamp < now_ms:
                split = bisect_left(waiting, now_ms, key=lambda held: held.interaction.timestamp)
                state = fold_all(state, [held.interaction for held in waiting[:split]])
                del waiting[:split]
            yield record, state
        waiting.append(record)


def _time_order(record: StreamInteraction) -> tuple[int, str, str, int]:
    return record.interaction.timestamp, record.interaction.event_id, record.source, record.offset


def _event(user_id: str, record: StreamInteraction) -> dict[str, Any]:
    event = record.interaction
    topic_id, partition = split_source(record.source)
    values = (
        user_id,
        event.event_id,
        event.timestamp,
        event.item_id,
        event.event_type,
        event.value,
    )
    return dict(zip(EVENT_COLUMNS, (*values, topic_id, partition, record.offset), strict=True))


def _put(row: dict[str, Any], view: str, features: Mapping[str, Any]) -> None:
    for name, value in features.items():
        row[f"{view}__{name}"] = value


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["topic_id"], row["partition"], row["offset"]
