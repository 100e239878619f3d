"""Catalogue entries: items and users that a shop upserts, patches or deletes, as records."""

from typing import Any, Literal

from services.ingestion import fields
from services.ingestion.fields import (
    Code,
    RejectionError,
    check_item_attributes,
    naming_hints,
    told_availability,
)
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Acceptance, Origin, Outcome, Rejection
from services.ingestion.privacy import without_write_keys
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import PATCHED_ENTITY
from slipstream.contracts.positions import Cut
from slipstream.contracts.spellings import item_field

Entity = Literal["item", "user"]
EntryKind = Entity | Literal["item_patch", "user_patch"]


def read_entry(
    entry: Any, kind: EntryKind, origin: Origin, rules: IntakeRules, max_bytes: int | None = None
) -> Outcome:
    """Read an entry: `item_id` or `user_id`, and attributes next to it or under `attributes`.

    `available: false` keeps an item out of recommendations until it is sent again without. A patch
    changes what it names, and null removes an attribute.

    Args:
        entry: The entry as parsed JSON of any kind.
        kind: Whether it is a whole item or user, or a patch of one.
        origin: Where the request came from.
        rules: Rules of the moment, for budgets and privacy.
        max_bytes: Largest size as JSON; None if the whole body is smaller.

    Returns:
        The record, or the rejection with its reason.
    """
    is_patch, of_user = kind in PATCHED_ENTITY, kind in ("user", "user_patch")
    key = "user_id" if of_user else "item_id"
    entity_id = None
    try:
        if type(entry) is not dict:
            raise RejectionError(Code.NOT_AN_OBJECT, f"an entry must be an object with {key}")
        rules.budgets.refuse_event(entry, max_bytes, "an entry")
        entity_id = fields.as_id(entry.get(key), key)
        if entity_id is None:
            raise RejectionError(Code.INVALID_ID, f"{key} is required{_other_ids(entry)}", key)
        under = fields.as_object(entry.get("attributes"), "attributes")
        further = {
            name: value
            for name, value in entry.items()
            if name not in (key, "attributes", "available")
        }
        attributes = {**further, **under}
        if not of_user:
            check_item_attributes(
                attributes, lambda name: f"attributes.{name}" if name in under else name
            )
        record = CatalogRecord(
            entity=kind,
            entity_id=entity_id,
            attributes=rules.privacy.published(attributes)
            if of_user
            else without_write_keys(attributes),
            available=_available(entry, kind, attributes),
            timestamp=origin.received_at,
            source=origin.source,
        )
    except RejectionError as error:
        # Named in the letter, since a patch that was sent again as a whole would wipe the rest.
        named = kind if is_patch else None
        return Rejection(entity_id, error, rules.privacy.original(entry, named))
    hints = () if of_user else tuple(naming_hints(attributes))
    return Acceptance(entity_id, [record], hints=hints, remark=_LATER if is_patch else "")


# A patch is merged behind the broker, where its item or user is known.
_LATER = "it becomes a dead letter if there is nothing that it changes"


def read_patch_of(
    entity_id: str,
    patch: Any,
    kind: EntryKind,
    origin: Origin,
    rules: IntakeRules,
    max_bytes: int | None = None,
) -> Outcome:
    """Read the patch of one item or user, which may name the id of the path and no other.

    Args:
        patch: The patch as parsed JSON of any kind.
        origin: Where the request came from.
        rules: Rules of the moment, for budgets and privacy.
        max_bytes: Largest size as JSON; None if the whole body is smaller.
    """
    key = f"{PATCHED_ENTITY[kind]}_id"
    named = patch.get(key) if type(patch) is dict else None
    if named is not None and str(named) != entity_id:
        error = RejectionError(Code.INVALID_ID, f"{key} is not that of the path", key)
        return Rejection(None, error, rules.privacy.original(patch, kind))
    entry = {**patch, key: entity_id} if type(patch) is dict else patch
    return read_entry(entry, kind, origin, rules, max_bytes)


def _available(entry: dict[str, Any], kind: EntryKind, attributes: dict[str, Any]) -> bool | None:
    """Whether the item may be recommended; None in a patch that does not say."""
    is_patch = kind in PATCHED_ENTITY
    if "available" not in entry:
        told = told_availability(attributes) if kind not in ("user", "user_patch") else None
        return told if told is not None or is_patch else True
    available = entry["available"]
    if available is None and is_patch:
        return True
    if type(available) is not bool:
        raise RejectionError(Code.INVALID_VALUE, "available must be true or false", "available")
    return available


def _other_ids(entry: dict[str, Any]) -> str:
    names = [name for name in entry if item_field(name) == "item_id"]
    return f"; {names[0]} is not read as it" if names else ""


def deletion(
    entity: Entity, entity_id: str, origin: Origin, erasure_id: str = "", cut: Cut | None = None
) -> Outcome:
    """Delete an item, which keeps its history but is no longer recommended, or erase a user.

    Args:
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
