"""How each feature view is read: off which state, and with what else. Reads what a request needs in
one round trip, and the attributes of items in a second one where a view is made of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.contracts.times import HOUR_MS
from slipstream.features.affinity import Attributes, affinity_features
from slipstream.features.declarations import FeatureRegistry
from slipstream.features.item import MOVING, ItemState, item_features, neighbour_features
from slipstream.features.request import RequestContext, request_features
from slipstream.features.session import session_features
from slipstream.features.views import (
    ITEM,
    ITEM_NEIGHBOURS,
    REQUEST,
    SESSION,
    VISITOR,
    FeatureView,
)
from slipstream.features.visitor import VisitorState, visitor_view
from slipstream.stores.online_reader import ITEMS_KEPT, OnlineReader

USER, ITEM_ID, UTC_OFFSET = "user_id", "item_id", "utc_offset_minutes"
# The columns that a request's entities may have, beside those that nobody reads.
KEYS: Final = (USER, ITEM_ID)
# A sequence has up to a hundred items: views that need their attributes are not computed for more
# visitors at once.
MOST_WITH_ATTRIBUTES: Final = 100

State = VisitorState | ItemState


# What one row of a request asks a view about: an id, or of a request-time view visitor, item and
# minutes from UTC.
RowKey = str | tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Entities:
    """What was read for a request. What was never seen is not in it."""

    visitors: Mapping[str, VisitorState]
    items: Mapping[str, ItemState]
    attributes: Mapping[str, Attributes] = field(default_factory=dict)


# The features of a row at a moment (ms), by name: at least those that are named. What it is read
# off is there.
Compute = Callable[[Any, Entities, int, Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ViewRead:
    """A view, and how its features are computed. `dtypes`: their types by name."""

    view: FeatureView
    compute: Compute
    dtypes: Mapping[str, str]

    def keys(self, rows: Mapping[str, Sequence[str]], offsets: Sequence[int]) -> Sequence[RowKey]:
        """What each row asks of this view: equal keys have equal features."""
        if self.view.kind == "request":
            return list(zip(rows[USER], rows[ITEM_ID], offsets, strict=True))
        return rows[self.view.join_key]

    def states(self, entities: Entities) -> Mapping[Any, State]:
        """What the view is read off, by row key."""
        return entities.visitors if self.of_visitors else entities.items

    @property
    def of_visitors(self) -> bool:
        return self.view.join_key == USER

    @property
    def needs_attributes(self) -> bool:
        return self.view.kind == "request" or self.view.name == "visitor_affinity"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request's list of features comes to; made once for each list.

    `views`: what is read, and the features of each. `columns` are those of the answer: its name,
    the view's place in `views`, the feature's name, whether it is a whole number.
    """

    views: tuple[tuple[ViewRead, tuple[str, ...]], ...]
    columns: tuple[tuple[str, int, str, bool], ...]

    @property
    def needs_attributes(self) -> bool:
        return any(read.needs_attributes for read, _ in self.views)


class ItemReads:
    """Computes the features of items. What changes only with the state, or by the hour, is
    remembered for as long: the same features of the same items are asked for again and again.
    """

    def __init__(self, size: int = ITEMS_KEPT) -> None:
        self._size = size
        self._known: dict[tuple[str, Sequence[str]], tuple[ItemState, int, dict[str, float]]] = {}

    def __call__(
        self, item_id: str, entities: Entities, now_ms: int, names: Sequence[str]
    ) -> Mapping[str, Any]:
        state = entities.items[item_id]
        if state.last_seen > now_ms:
            return item_features(state, now_ms, names)
        hour, asked = now_ms // HOUR_MS, (item_id, names)
        known = self._known.get(asked)
        # A state that is read again without having been written is the same object (see
        # `slipstream.stores.state_cache`).
        if known is None or known[0] is not state or known[1] != hour:
            steady = item_features(state, now_ms, [name for name in names if name not in MOVING])
            self._known.pop(asked, None)
            if len(self._known) >= self._size:
                del self._known[next(iter(self._known))]
            self._known[asked] = known = state, hour, steady
        moving = [name for name in names if name in MOVING]
        return {**known[2], **item_features(state, now_ms, moving)} if moving else known[2]


def view_reads(registry: FeatureRegistry) -> dict[str, ViewRead]:
    """By name, in the order of their declaration."""
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
        ITEM.name: ItemReads(),
        ITEM_NEIGHBOURS.name: lambda item_id, entities, now_ms, names: neighbour_features(
            entities.items[item_id], now_ms, names
        ),
        REQUEST.name: request,
    }
    return {
        view.name: ViewRead(
            view,
            computes.get(view.name, affinity),
            {feature.name: feature.dtype for feature in view.fields},
        )
        for view in registry.views
    }


async def read_entities(
    reader: OnlineReader, plan: Plan, rows: Mapping[str, Sequence[str]]
) -> Entities:
    """What the plan's views need of these ids, by join key."""
    of_visitors = {read.of_visitors for read, _ in plan.views}
    users = list(dict.fromkeys(rows[USER])) if True in of_visitors else []
    items = list(dict.fromkeys(rows[ITEM_ID])) if False in of_visitors else []
    visitor_states, item_states = await reader.states(users, items)
    visitors = {
        user_id: state
        for user_id, state in zip(users, visitor_states, strict=True)
        if state is not None
    }
    found = {
        item_id: state
        for item_id, state in zip(items, item_states, strict=True)
        if state is not None
    }
    if not plan.needs_attributes:
        return Entities(visitors, found)
    wanted = [event.item_id for state in visitors.values() for event in state.sequence]
    if any(read.view.kind == "request" for read, _ in plan.views):
        wanted += rows[ITEM_ID]
    distinct = list(dict.fromkeys(wanted))
    entries = await reader.catalog(distinct)
    known = {
        item_id: entry.attributes
        for item_id, entry in zip(distinct, entries, strict=True)
        if entry is not None and not entry.deleted
    }
    return Entities(visitors, found, known)
