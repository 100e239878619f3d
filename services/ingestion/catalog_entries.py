"""Catalogue entries: items and users that a shop upserts in bulk or deletes, as records."""

from typing import Any, Literal

from services.ingestion.intake_rules import IntakeRules
from services.ingestion.verdicts import Acceptance, Origin, Outcome, Rejection
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Cut
from slipstream.ingress import fields
from slipstream.ingress.item_attributes import check_item_attributes
from slipstream.ingress.privacy import without_write_keys
from slipstream.ingress.rejections import Code, RejectionError

Entity = Literal["item", "user"]


def read_entry(
    entry: Any, entity: Entity, origin: Origin, rules: IntakeRules, max_bytes: int | None = None
) -> Outcome:
    """Read an entry: `item_id` or `user_id`, and attributes beside it or under `attributes`.

    `available: false` keeps an item out of recommendations until it is sent again without.

    Args:
        entry: The entry as parsed JSON of any kind.
        entity: Whether it is an item or a user.
        origin: Where the request came from.
        rules: Rules of the moment, for budgets and privacy.
        max_bytes: Largest size as JSON; None if the whole body is smaller.

    Returns:
        The record, or the rejection with its reason.
    """
    key = f"{entity}_id"
    entity_id = None
    try:
        if type(entry) is not dict:
            raise RejectionError(Code.NOT_AN_OBJECT, f"an entry must be an object with {key}")
        rules.budgets.refuse_event(entry, max_bytes, "an entry")
        entity_id = fields.as_id(entry.get(key), key)
        if entity_id is None:
            raise RejectionError(Code.INVALID_ID, f"{key} is required", key)
        available = entry.get("available", True)
        if type(available) is not bool:
            raise RejectionError(Code.INVALID_VALUE, "available must be true or false", "available")
        under = fields.as_object(entry.get("attributes"), "attributes")
        beside = {
            name: value
            for name, value in entry.items()
            if name not in (key, "attributes", "available")
        }
        attributes = {**beside, **under}
        if entity == "item":
            check_item_attributes(
                attributes, lambda name: f"attributes.{name}" if name in under else name
            )
        record = CatalogRecord(
            entity=entity,
            entity_id=entity_id,
            attributes=without_write_keys(attributes)
            if entity == "item"
            else rules.privacy.published(attributes),
            available=available,
            timestamp=origin.received_at,
            source=origin.source,
        )
    except RejectionError as error:
        return Rejection(entity_id, error, rules.privacy.original(entry))
    return Acceptance(entity_id, [record])


def deletion(
    entity: Entity, entity_id: str, origin: Origin, erasure_id: str = "", cut: Cut | None = None
) -> Outcome:
    """Delete an item, which keeps its history but is no longer recommended, or erase a user.

    Args:
        entity: Whether it is an item or a user.
        entity_id: Its id.
        origin: Where the request came from.
        erasure_id: The name of a user's erasure.
        cut: The place of a user's erasure in the order of events.
    """
    key = f"{entity}_id"
    try:
        if (valid := fields.as_id(entity_id, key)) is None:
            raise RejectionError(Code.INVALID_ID, f"{key} is required", key)
    except RejectionError as error:
        return Rejection(None, error, {key: entity_id, "deleted": True})
    record = CatalogRecord(
        entity=entity,
        entity_id=valid,
        deleted=True,
        timestamp=origin.received_at,
        source=origin.source,
        erasure_id=erasure_id,
        cut={topic: dict(ends) for topic, ends in (cut or {}).items()},
    )
    return Acceptance(valid, [record])
