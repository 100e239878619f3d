"""Items and users that a shop upserts in bulk or deletes, as catalogue records: the newest state of each, whole."""

from typing import Any, Literal

import orjson

from services.ingestion import fields
from services.ingestion.verdicts import Code, Origin, Outcome, Rejected, RejectedError, Taken
from slipstream.contracts.events import CatalogRecord

Entity = Literal["item", "user"]


def read_entry(entry: Any, entity: Entity, origin: Origin, max_bytes: int | None = None) -> Outcome:
    """What an entry means, or why it is rejected: `item_id` or `user_id`, and any attributes beside it or under `attributes`.

    `available: false` keeps an item out of recommendations until it is sent again without.
    """
    key = f"{entity}_id"
    entity_id = None
    try:
        if type(entry) is not dict:
            raise RejectedError(Code.NOT_AN_OBJECT, f"an entry must be an object with {key}")
        fields.refuse_deep(entry)
        if max_bytes is not None and len(orjson.dumps(entry)) > max_bytes:
            raise RejectedError(Code.EVENT_TOO_LARGE, f"an entry may have at most {max_bytes} bytes")
        entity_id = fields.as_id(entry.get(key), key)
        if entity_id is None:
            raise RejectedError(Code.INVALID_ID, f"{key} is required", key)
        available = entry.get("available", True)
        if type(available) is not bool:
            raise RejectedError(Code.INVALID_VALUE, "available must be true or false", "available")
        attributes = fields.as_object(entry.get("attributes"), "attributes")
        beside = {name: value for name, value in entry.items() if name not in (key, "attributes", "available")}
        record = CatalogRecord(
            entity=entity,
            entity_id=entity_id,
            attributes={**beside, **attributes},
            available=available,
            timestamp=origin.received_at,
            source=origin.source,
        )
    except RejectedError as error:
        return Rejected(entity_id, error, entry)
    return Taken(entity_id, [record])


def deletion(item_id: str, origin: Origin) -> Outcome:
    """An item that is gone for good: it is no longer recommended, its history stays."""
    try:
        if (valid := fields.as_id(item_id, "item_id")) is None:
            raise RejectedError(Code.INVALID_ID, "item_id is required", "item_id")
    except RejectedError as error:
        return Rejected(None, error, {"item_id": item_id, "deleted": True})
    record = CatalogRecord(entity="item", entity_id=valid, deleted=True, timestamp=origin.received_at, source=origin.source)
    return Taken(valid, [record])
