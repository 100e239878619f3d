"""Reads of feature views: the states and attributes that each view's features are computed from.

A request's states are read in one round trip. Views that are computed from the attributes of items
take a second one. All features of one view for one entity are for people to look at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.contracts.times import HOUR_MS
from slipstream.features.item import MOVING, ItemState, item_features, neighbour_features
from slipstream.features.request import (
    Attributes,
    RequestContext,
    affinity_features,
    request_features,
    session_features,
)
from slipstream.features.views import (
    ITEM,
    ITEM_NEIGHBOURS,
    REQUEST,
    SESSION,
    VISITOR,
    FeatureRegistry,
    FeatureView,
    affinity_view,
)
from slipstream.features.visitor import VisitorState, visitor_view
from slipstream.stores.online_reader import ITEMS_KEPT, OnlineReader

USER, ITEM_ID, UTC_OFFSET = "user_id", "item_id", "utc_offset_minutes"
# Join keys that a view may have. Other columns of a request's entities are ignored.
KEYS: Final = (USER, ITEM_ID)
# Most visitors of a request whose views need the attributes of items: each visitor's sequence has
# up to a hundred items.
MOST_WITH_ATTRIBUTES: Final = 100
# The view's name does not depend on the attributes that are configured.
AFFINITY: Final = affinity_view().name

State = VisitorState | ItemState

# Subject of a row in a view: an id, or for request-time views visitor, item and minutes from UTC.
RowKey = str | tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Entities:
    """States and attributes read for a request, by id. Those never seen are absent."""

    visitors: Mapping[str, VisitorState]
    items: Mapping[str, ItemState]
    attributes: Mapping[str, Attributes] = field(default_factory=dict)


# Computes a row's features by name, from the row key, entities, time in ms and feature names. It
# gives at least the features named, and is called only where the entities have the view's state.
Compute = Callable[[Any, Entities, int, Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ViewRead:
    """A view with the function that computes its features, and the features' types by name."""

    view: FeatureView
    compute: Compute
    dtypes: Mapping[str, str]

    def keys(self, rows: Mapping[str, Sequence[str]], offsets: Sequence[int]) -> Sequence[RowKey]:
        """The row keys of a request for this view. Rows with equal keys have equal features.

        `rows` holds ids by join key, `offsets` each row's minutes from UTC.
        """
        if self.view.kind == "request":
            return list(zip(rows[USER], rows[ITEM_ID], offsets, strict=True))
        return rows[self.view.join_key]

    def states(self, entities: Entities) -> Mapping[Any, State]:
        """The states that the view is read from, by id."""
        return entities.visitors if self.of_visitors else entities.items

    @property
    def of_visitors(self) -> bool:
        return self.view.join_key == USER

    @property
    def needs_attributes(self) -> bool:
        return self.view.kind == "request" or self.view.name == AFFINITY


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Reads and answer columns of a list of features; made once per list.

    `views` holds each view to read, with the names of its features. `columns` holds the columns of
    the answer: name, the view's index in `views`, the feature's name and type.
    """

    views: tuple[tuple[ViewRead, tuple[str, ...]], ...]
    columns: tuple[tuple[str, int, str, str], ...]

    @property
    def needs_attributes(self) -> bool:
        return any(read.needs_attributes for read, _ in self.views)

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the columns."""
        return tuple(name for _, _, name, _ in self.columns)

    def values(self, computed: Mapping[str, Any]) -> dict[str, Any]:
        """The features of a plan of one view by name, from those that were computed."""
        return {
            name: int(computed[name]) if dtype == "Int64" else computed[name]
            for _, _, name, dtype in self.columns
        }


class ItemReads:
    """Computes the features of items, with a cache for those that change by the hour at most.

    Requests read the same features of the same items again and again. A cached value holds until
    the item's state is another, or the hour is.
    """

    def __init__(self, size: int = ITEMS_KEPT) -> None:
        self._size = size
        self._cached: dict[tuple[str, Sequence[str]], tuple[ItemState, int, dict[str, float]]] = {}

    def __call__(
        self, item_id: str, entities: Entities, now_ms: int, names: Sequence[str]
    ) -> Mapping[str, Any]:
        state = entities.items[item_id]
        if state.last_seen > now_ms:
            return item_features(state, now_ms, names)
        hour, key = now_ms // HOUR_MS, (item_id, names)
        cached = self._cached.get(key)
        # A state that is read again without having been written is the same object (see
        # `slipstream.stores.layout`).
        if cached is None or cached[0] is not state or cached[1] != hour:
            steady = item_features(state, now_ms, [name for name in names if name not in MOVING])
            self._cached.pop(key, None)
            if len(self._cached) >= self._size:
                del self._cached[next(iter(self._cached))]
            self._cached[key] = cached = state, hour, steady
        moving = [name for name in names if name in MOVING]
        return {**cached[2], **item_features(state, now_ms, moving)} if moving else cached[2]


def view_reads(registry: FeatureRegistry) -> dict[str, ViewRead]:
    """The read of each declared view by name, in the order of declaration.

    Raises `KeyError` for a view that nothing here computes.
    """
    attributes = registry.affinity_attributes

    def affinity(
        user_id: str, entities: Entities, now_ms: int, _names: Sequence[str]
    ) -> Mapping[str, Any]:
        return affinity_features(
            entities.visitors[user_id].sequence, entities.attributes, now_ms, attributes
        )

    def request(
        key: tuple[str, str, int], entities: Entities, now_ms: int, _names: Sequence[str]
    ) -> Mapping[str, Any]:
        user_id, item_id, offset = key
        context = RequestContext(now_ms, item_id, offset)
        return request_features(
            context,
            entities.visitors.get(user_id),
            entities.attributes,
            attributes[0] if attributes else "",
        )

    computes: dict[str, Compute] = {
        VISITOR.name: lambda user_id, entities, now_ms, names: visitor_view(
            entities.visitors[user_id], now_ms, names
        ),
        SESSION.name: lambda user_id, entities, now_ms, names: session_features(
            entities.visitors[user_id], now_ms, names
        ),
        AFFINITY: affinity,
        ITEM.name: ItemReads(),
        ITEM_NEIGHBOURS.name: lambda item_id, entities, now_ms, names: neighbour_features(
            entities.items[item_id], now_ms, names
        ),
        REQUEST.name: request,
    }
    return {
        view.name: ViewRead(
            view,
            computes[view.name],
            {feature.name: feature.dtype for feature in view.fields},
        )
        for view in registry.views
    }


async def read_entities(
    reader: OnlineReader, plan: ReadPlan, rows: Mapping[str, Sequence[str]]
) -> Entities:
    """Read the states and attributes that the plan's views need.

    `rows` holds the ids by join key. Raises `StoreUnavailableError`.
    """
    of_visitors = {read.of_visitors for read, _ in plan.views}
    users = list(dict.fromkeys(rows[USER])) if True in of_visitors else []
    items = list(dict.fromkeys(rows[ITEM_ID])) if False in of_visitors else []
    visitor_states, item_states = await reader.states(users, items)
    visitors = {
        user_id: state
        for user_id, state in zip(users, visitor_states, strict=True)
        if state is not None
    }
    seen_items = {
        item_id: state
        for item_id, state in zip(items, item_states, strict=True)
        if state is not None
    }
    if not plan.needs_attributes:
        return Entities(visitors, seen_items)
    wanted = [event.item_id for state in visitors.values() for event in state.sequence]
    if any(read.view.kind == "request" for read, _ in plan.views):
        wanted += rows[ITEM_ID]
    distinct = list(dict.fromkeys(wanted))
    entries = await reader.catalog(distinct)
    attributes = {
        item_id: entry.attributes
        for item_id, entry in zip(distinct, entries, strict=True)
        if entry is not None and not entry.deleted
    }
    return Entities(visitors, seen_items, attributes)


async def entity_features(
    reader: OnlineReader, plan: ReadPlan, entity_id: str, now_ms: int
) -> dict[str, Any] | None:
    """A view's features of a visitor or an item at `now_ms`, with the counts of its state.

    With the view `visitor` the stored sequence and impressions are given, too.

    Args:
        plan: The plan of all features of a stored or derived view.
        now_ms: The moment, in ms since the epoch.

    Returns:
        The body of `EntityFeatures`; None when the entity is unknown.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    ((read, _),) = plan.views
    entities = await read_entities(reader, plan, {read.view.join_key: [entity_id]})
    state = read.states(entities).get(entity_id)
    if state is None:
        return None
    detail = {
        "view": read.view.name,
        "entity_id": entity_id,
        "features": plan.values(read.compute(entity_id, entities, now_ms, plan.names)),
        "counts": state.counts,
        "first_seen": state.first_seen,
        "last_seen": state.last_seen,
    }
    if isinstance(state, VisitorState) and read.view is VISITOR:
        detail["sequence"] = [event._asdict() for event in state.sequence]
        detail["impressions"] = [each._asdict() for each in state.impressions]
    return detail


async def pair_features(
    reader: OnlineReader, plan: ReadPlan, user_id: str, item_id: str, offset: int, now_ms: int
) -> dict[str, Any]:
    """A view's features of a visitor, an item and the moment `now_ms`.

    A visitor or an item that was never seen has the features' defaults.

    Args:
        plan: The plan of all features of a request-time view.
        offset: Minutes of the request's time from UTC.
        now_ms: The moment, in ms since the epoch.

    Returns:
        The body of `PairFeatures`.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    ((read, _),) = plan.views
    entities = await read_entities(reader, plan, {USER: [user_id], ITEM_ID: [item_id]})
    computed = read.compute((user_id, item_id, offset), entities, now_ms, plan.names)
    return {
        "view": read.view.name,
        "user_id": user_id,
        "item_id": item_id,
        "features": plan.values(computed),
    }
