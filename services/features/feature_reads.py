"""Feature reads, in the shape of Feast's feature server and in our own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from slipstream.features.item import ItemState, item_features
from slipstream.features.views import ITEM, VISITOR, FeatureView
from slipstream.features.visitor import VisitorState, visitor_features
from slipstream.stores.online import OnlineReader

PRESENT: Final = "PRESENT"
NOT_FOUND: Final = "NOT_FOUND"
OUTSIDE_MAX_AGE: Final = "OUTSIDE_MAX_AGE"
_VIEWS: Final = (VISITOR, ITEM)
_NEVER: Final = "1970-01-01T00:00:00Z"


class UnknownFeatureError(ValueError):
    """The request names a view, a feature or an entity that is not declared; the text says which and what there is."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feature (or join key) over all rows of a request: Feast's `FeatureVector`."""

    name: str
    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str]


async def online_features(
    reader: OnlineReader, features: Sequence[str], entities: Mapping[str, Sequence[Any]], now_ms: int, *, full_names: bool
) -> list[Column]:
    """One column for each join key, then one for each feature ("view:feature", in the order asked), over the rows of `entities`.

    A value of an entity never seen is None and NOT_FOUND. One whose entity's last event is older than the view's time to live
    is None and OUTSIDE_MAX_AGE: a stale value is not passed off as a fresh one. Raises `UnknownFeatureError`.
    """
    asked = [_reference(reference) for reference in features]
    views = list(dict.fromkeys(view for view, _ in asked))
    ids = {view.name: [_as_id(value) for value in _entity_rows(view, entities)] for view in views}
    columns = [
        Column(view.join_key, list(entities[view.join_key]), [PRESENT] * len(ids[view.name]), [_NEVER] * len(ids[view.name]))
        for view in views
    ]
    if len({len(column.values) for column in columns}) > 1:
        raise UnknownFeatureError("all lists under entities must have the same length")
    read = {view.name: await _read(reader, view, ids[view.name], now_ms) for view in views}
    for view, name in asked:
        rows = read[view.name]
        columns.append(
            Column(
                f"{view.name}__{name}" if full_names else name,
                [_typed(view, name, row.features[name]) if row.status == PRESENT else None for row in rows],
                [row.status for row in rows],
                [row.event_timestamp for row in rows],
            )
        )
    return columns


async def visitor_detail(reader: OnlineReader, user_id: str, now_ms: int) -> dict[str, Any] | None:
    """All that is kept of a visitor, with its features at `now_ms`; None when it is unknown."""
    state = await reader.visitor(user_id)
    if state is None:
        return None
    return {
        **_detail("visitor", user_id, state, visitor_features(state, now_ms)),
        "sequence": [event._asdict() for event in state.sequence],
    }


async def item_detail(reader: OnlineReader, item_id: str, now_ms: int) -> dict[str, Any] | None:
    """All that is kept of an item, with its features at `now_ms`; None when it is unknown."""
    state = (await reader.items([item_id]))[0]
    return None if state is None else _detail("item", item_id, state, item_features(state, now_ms))


@dataclass(frozen=True, slots=True)
class _Row:
    status: str
    event_timestamp: str
    features: dict[str, float]


async def _read(reader: OnlineReader, view: FeatureView, ids: Sequence[str], now_ms: int) -> list[_Row]:
    if view.name == "visitor":
        return [
            _row(view, state, visitor_features(state, now_ms) if state else {}, now_ms) for state in await reader.visitors(ids)
        ]
    return [_row(view, state, item_features(state, now_ms) if state else {}, now_ms) for state in await reader.items(ids)]


def _row(view: FeatureView, state: VisitorState | ItemState | None, features: dict[str, float], now_ms: int) -> _Row:
    if state is None:
        return _Row(NOT_FOUND, _NEVER, features)
    stale = now_ms - state.last_seen > view.ttl_s * 1000
    return _Row(OUTSIDE_MAX_AGE if stale else PRESENT, _rfc3339(state.last_seen), features)


def _detail(
    view: Literal["visitor", "item"], entity_id: str, state: VisitorState | ItemState, features: dict[str, float]
) -> dict[str, Any]:
    return {
        "view": view,
        "entity_id": entity_id,
        "features": features,
        "counts": state.counts,
        "first_seen": state.first_seen,
        "last_seen": state.last_seen,
    }


def _reference(reference: str) -> tuple[FeatureView, str]:
    view_name, _, name = reference.partition(":")
    view = next((view for view in _VIEWS if view.name == view_name), None)
    if view is None:
        raise UnknownFeatureError(f"no feature view {view_name!r}; there are {', '.join(view.name for view in _VIEWS)}")
    if name not in view.numbers:
        raise UnknownFeatureError(f"no feature {name!r} in view {view_name!r}; there are {', '.join(view.numbers)}")
    return view, name


def _entity_rows(view: FeatureView, entities: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    if view.join_key not in entities:
        raise UnknownFeatureError(f"view {view.name!r} needs {view.join_key!r} under entities")
    return entities[view.join_key]


def _as_id(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _typed(view: FeatureView, name: str, value: float) -> float | int:
    dtype = next(feature.dtype for feature in view.fields if feature.name == name)
    return int(value) if dtype == "Int64" else value


def _rfc3339(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
