"""Interactions of an event: with its item, each of its products, and each of its impressions."""

from typing import Any

from services.ingestion.budgets import SHARED, SHARED_LENGTH, Budgets
from services.ingestion.event_names import EventName
from slipstream.contracts.events import NewInteraction
from slipstream.contracts.vocabulary import IMPRESSION, RATE
from slipstream.ingress import fields
from slipstream.ingress.fields import Code, RejectionError

ITEM_KEYS = ("item_id", "product_id", "sku")
# Bytes that ":", a letter and an index need behind a message id.
INDEX_ROOM = 6
# Properties that an interaction has a field for.
_RECORD_FIELDS = frozenset({"item_id", "recommendation_id", "session_id", "value"})


def read_interactions(
    shared: dict[str, Any],
    properties: dict[str, Any],
    message_id: str,
    name: EventName,
    budgets: Budgets,
) -> list[NewInteraction]:
    """The interactions of an event. Rejects an event that must be about an item and names none.

    Args:
        shared: Fields that all of the interactions have.
        properties: The event's properties.
        message_id: Id of the event; products and impressions get it with their index.
        name: Meaning of the event's name.
        budgets: The most that an event may become.
    """
    products = properties.get("products")
    shown = properties.get("impressions")
    shown = shown if type(shown) is list and shown else None
    item_id = item_of(properties, "properties")
    made: list[NewInteraction] = []
    of_products = (
        products is not None
        and item_id is None
        and name.of_an_item
        and not (name.otherwise is not None and not products)
    )
    budgets.refuse_many(products if of_products else None, shown)
    if of_products:
        made = _of_a_list(shared, properties, products, message_id, "products", name.event_type)
    elif item_id is not None or not name.of_an_item:
        made = [
            _interaction(
                shared, properties, message_id, name.event_type, item_id, shown is not None
            )
        ]
    elif name.otherwise is not None:
        made = [
            _interaction(shared, properties, message_id, name.otherwise, None, shown is not None)
        ]
    elif shown is None or name.event_type != IMPRESSION:
        raise RejectionError(
            Code.MISSING_ITEM,
            f"a {name.event_type} needs an item: item_id, product_id, sku or products",
            "properties.item_id",
        )
    if shown is not None:
        made += _of_a_list(shared, properties, shown, message_id, "impressions", IMPRESSION)
    return made


def item_of(properties: dict[str, Any], field: str) -> str | None:
    """The id of the item in the properties, or None."""
    for key in ITEM_KEYS:
        if (value := properties.get(key)) is not None and (
            item_id := fields.as_id(value, f"{field}.{key}")
        ):
            return item_id
    return None


def _interaction(
    shared: dict[str, Any],
    properties: dict[str, Any],
    message_id: str,
    event_type: str,
    item_id: str | None,
    impressions: bool,
) -> NewInteraction:
    others = {key: value for key, value in properties.items() if key not in _RECORD_FIELDS}
    if impressions:
        del others["impressions"]
    return NewInteraction(
        **shared,
        event_type=event_type,
        event_id=message_id,
        item_id=item_id,
        value=_value(properties, event_type, "properties"),
        recommendation_id=fields.as_id(
            properties.get("recommendation_id"), "properties.recommendation_id"
        ),
        position=fields.position_or_none(properties.get("position")),
        properties=others,
    )


def _of_a_list(
    shared: dict[str, Any],
    properties: dict[str, Any],
    entries: Any,
    message_id: str,
    listed: str,
    event_type: str,
) -> list[NewInteraction]:
    """An interaction for each entry, an id or an object, of the list `properties[listed]`."""
    whole = f"properties.{listed}"
    if type(entries) is not list or not entries:
        raise RejectionError(
            Code.MISSING_ITEM, f"{listed} must be a list with at least one product", whole
        )
    slate = fields.as_id(properties.get("recommendation_id"), "properties.recommendation_id")
    common = {
        key: value
        for key in SHARED
        if type(value := properties.get(key)) in (int, float, bool)
        or (type(value) is str and len(value) <= SHARED_LENGTH)
    }
    prefix = f"{message_id}:" if listed == "products" else f"{message_id}:i"
    made: list[NewInteraction] = []
    for index, entry in enumerate(entries):
        field = f"{whole}.{index}"
        product = entry if type(entry) is dict else {"item_id": entry}
        item_id = item_of(product, field)
        if item_id is None:
            raise RejectionError(
                Code.MISSING_ITEM, f"an entry of {listed} needs item_id, product_id or sku", field
            )
        position = fields.position_or_none(product.get("position"))
        value = _value(product, event_type, field)
        if value is None and len(entries) == 1 and listed == "products":
            value = _value(properties, event_type, "properties")
        made.append(
            NewInteraction(
                **shared,
                event_type=event_type,
                event_id=f"{prefix}{index}",
                item_id=item_id,
                value=value,
                recommendation_id=fields.as_id(
                    product.get("recommendation_id"), f"{field}.recommendation_id"
                )
                or slate,
                # Impressions are listed as they were shown. The order of products means nothing.
                position=index if position is None and event_type == IMPRESSION else position,
                properties={
                    **common,
                    **{key: value for key, value in product.items() if key not in _RECORD_FIELDS},
                },
            )
        )
    return made


def _value(properties: dict[str, Any], event_type: str, field: str) -> float | None:
    """`value`, else a rating, else the revenue.

    Money that is no number ("19,99 €") stays a property.
    """
    if (value := properties.get("value")) is not None:
        return fields.as_value(value, f"{field}.value")
    if event_type == RATE:
        rating = properties.get("rating")
        return None if rating is None else fields.as_value(rating, f"{field}.rating")
    if (
        "revenue" in properties
        and (revenue := fields.number_or_none(properties["revenue"])) is not None
    ):
        return revenue
    if "price" not in properties or (price := fields.number_or_none(properties["price"])) is None:
        return None
    quantity = fields.number_or_none(properties.get("quantity", 1))
    return fields.number_or_none(price * (1.0 if quantity is None else quantity))
