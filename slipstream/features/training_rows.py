"""Training rows: an event on an item, and the features of all views strictly before it.

"Before" goes by event time: a row has no event of its own millisecond, so it knows neither its
label nor anything later. The visitor is the user that the event's visitor is known to be today. The
features are read off states that are folded as in the stream.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from slipstream.contracts.positions import StreamInteraction, split_source
from slipstream.features import item, visitor
from slipstream.features.history import in_order_of_time
from slipstream.features.item import item_features
from slipstream.features.request import (
    PRICE,
    STAND_INS,
    Attributes,
    RequestContext,
    affinity_features,
    request_features,
    session_features,
)
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

# Whether a record becomes a row.
RowFilter = Callable[[StreamInteraction], bool]
# The columns about a row's event: the visitor as known today, the event, its position in the lake.
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


class AttributeHistory:
    """Attributes of items as they were known over time."""

    def __init__(
        self,
        records: Iterable[tuple[str, int, Attributes]],
        attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
    ) -> None:
        """Keep prices and the named attributes of the records, with those that stand in for them.
        Records are of item, time in ms, attributes. Of equal times, the last record counts.
        """
        others = (STAND_INS[name] for name in attributes if name in STAND_INS)
        self._wanted = {*attributes, *others, PRICE}
        self._known: dict[str, list[tuple[int, Attributes]]] = {}
        for item_id, timestamp, given in records:
            held = {name: value for name, value in given.items() if name in self._wanted}
            self._known.setdefault(item_id, []).append((timestamp, held))
        for versions in self._known.values():
            versions.sort(key=itemgetter(0))

    def before(self, now_ms: int) -> Mapping[str, Attributes]:
        """Attributes by item id, of each item's newest record before that moment.

        An item that was described only later has its first description: the catalogue of a shop
        often comes after its history, and online a late entry counts, too.
        """
        return _AttributesBefore(self._known, now_ms)


class _AttributesBefore(Mapping[str, Attributes]):
    """`AttributeHistory.before`, looked up item by item."""

    def __init__(self, known: Mapping[str, list[tuple[int, Attributes]]], now_ms: int) -> None:
        self._all, self._now_ms = known, now_ms

    def __getitem__(self, item_id: str) -> Attributes:
        versions = self._all[item_id]
        return versions[max(0, bisect_left(versions, self._now_ms, key=itemgetter(0)) - 1)][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def visitor_rows(
    user_id: str,
    records: Iterable[StreamInteraction],
    chosen: RowFilter,
    catalogue: AttributeHistory,
    attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
) -> Iterator[dict[str, Any]]:
    """The rows of one visitor by event time, without the item's features. Records may be in any
    order; the visitor is the one known today.
    """
    for record, state in moments(records, chosen):
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


def item_rows(records: Iterable[StreamInteraction], chosen: RowFilter) -> Iterator[dict[str, Any]]:
    """The rows of one item by event time: the event's position and the item's features."""
    for record, state in _before(records, chosen, None, item.fold_all):
        topic_id, partition = split_source(record.source)
        row = {"topic_id": topic_id, "partition": partition, "offset": record.offset}
        _put(row, ITEM.name, item_features(state, record.interaction.timestamp))
        yield row


def moments(
    records: Iterable[StreamInteraction], chosen: RowFilter
) -> Iterator[tuple[StreamInteraction, VisitorState]]:
    """The chosen events of one visitor by event time, each with the state strictly before it."""
    for record, state in _before(records, chosen, VisitorState(), visitor.fold_all):
        yield record, state or VisitorState()


def training_rows(
    visitors: Mapping[str, Sequence[StreamInteraction]],
    chosen: RowFilter,
    catalogue: AttributeHistory | None = None,
    attributes: Sequence[str] = AFFINITY_ATTRIBUTES,
) -> list[dict[str, Any]]:
    """The training rows of a history that fits into memory. Visitors are those known today, with
    records in any order.
    """
    catalogue = catalogue or AttributeHistory(())
    by_item: dict[str, list[StreamInteraction]] = {}
    for records in visitors.values():
        for record in records:
            if record.interaction.item_id is not None:
                by_item.setdefault(record.interaction.item_id, []).append(record)
    of_items = {
        _position(row): row for records in by_item.values() for row in item_rows(records, chosen)
    }
    return [
        row | of_items[_position(row)]
        for user_id in sorted(visitors)
        for row in visitor_rows(user_id, visitors[user_id], chosen, catalogue, attributes)
    ]


def feature_columns(attributes: Sequence[str] = AFFINITY_ATTRIBUTES) -> dict[str, Feature]:
    """The columns of a row after `EVENT_COLUMNS`, in order, named "<view>__<feature>".

    The neighbours of an item are not among them: which pairs its state keeps depends on the order
    in which events arrived.
    """
    views = (VISITOR, SESSION, affinity_view(attributes), REQUEST, ITEM)
    return {f"{view.name}__{feature.name}": feature for view in views for feature in view.fields}


def rows_between(since_ms: int | None = None, until_ms: int | None = None) -> RowFilter:
    """A filter for events on an item, at or after `since_ms` and before `until_ms`."""
    first, end = since_ms or 0, until_ms if until_ms is not None else 2**62

    def chosen(record: StreamInteraction) -> bool:
        return (
            record.interaction.item_id is not None
            and not record.interaction.unlearned
            and first <= record.interaction.timestamp < end
        )

    return chosen


def _before(
    records: Iterable[StreamInteraction],
    chosen: RowFilter,
    state: Any,
    fold_all: Callable[..., Any],
) -> Iterator[tuple[StreamInteraction, Any]]:
    waiting: list[StreamInteraction] = []
    for record in in_order_of_time(records):
        if chosen(record):
            now_ms = record.interaction.timestamp
            if waiting and waiting[0].interaction.timestamp < now_ms:
                split = bisect_left(waiting, now_ms, key=lambda held: held.interaction.timestamp)
                state = fold_all(state, [held.interaction for held in waiting[:split]])
                del waiting[:split]
            yield record, state
        waiting.append(record)


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


def _position(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["topic_id"], row["partition"], row["offset"]
