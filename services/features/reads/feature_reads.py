"""Stored states of visitors and items with their features, for people to look at."""

from typing import Any, Literal

from slipstream.features.item import ItemState, item_features
from slipstream.features.visitor import VisitorState, visitor_features
from slipstream.stores.online import OnlineReader


async def visitor_detail(reader: OnlineReader, user_id: str, now_ms: int) -> dict[str, Any] | None:
    """The stored state of a visitor, with its features at `now_ms`; None when it is unknown."""
    state = await reader.visitor(user_id)
    if state is None:
        return None
    return {
        **_detail("visitor", user_id, state, visitor_features(state, now_ms)),
        "sequence": [event._asdict() for event in state.sequence],
        "impressions": [each._asdict() for each in state.impressions],
    }


async def item_detail(reader: OnlineReader, item_id: str, now_ms: int) -> dict[str, Any] | None:
    """The stored state of an item, with its features at `now_ms`; None when it is unknown."""
    state = (await reader.items([item_id]))[0]
    return None if state is None else _detail("item", item_id, state, item_features(state, now_ms))


def _detail(
    view: Literal["visitor", "item"],
    entity_id: str,
    state: VisitorState | ItemState,
    features: dict[str, float],
) -> dict[str, Any]:
    return {
        "view": view,
        "entity_id": entity_id,
        "features": features,
        "counts": state.counts,
        "first_seen": state.first_seen,
        "last_seen": state.last_seen,
    }
