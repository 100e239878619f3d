"""All features of one view for one entity, for people to look at."""

from typing import Any

from services.features.reads.view_reads import ITEM_ID, USER, ReadPlan, read_entities
from slipstream.features.views import VISITOR
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineReader


async def entity_features(
    reader: OnlineReader, plan: ReadPlan, entity_id: str, now_ms: int
) -> dict[str, Any] | None:
    """A view's features of a visitor or an item at `now_ms`, with the counts of its state.

    With the view `visitor` the stored sequence and impressions are given, too.

    Args:
        reader: The online store.
        plan: The plan of all features of a stored or derived view.
        entity_id: The id of the visitor or of the item.
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
        reader: The online store.
        plan: The plan of all features of a request-time view.
        user_id: The visitor's id.
        item_id: The item's id.
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
