"""Segment's tracking payloads as records: track and page make interactions, identify makes a user's catalogue entry.

https://segment.com/docs/connections/spec/ and its e-commerce part. `docs/events.md` has the mapping for people.
"""

import random
from typing import Any

import orjson

from services.ingestion import fields
from services.ingestion.event_names import EventName, classify
from services.ingestion.verdicts import Code, Origin, Outcome, Rejected, RejectedError, Taken
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.vocabulary import IMPRESSION, RATE, VIEW

Made = Interaction | CatalogRecord

PAGE = EventName("page", of_an_item=False)
PAGE_OF_AN_ITEM = EventName(VIEW, of_an_item=True)
ITEM_KEYS = ("item_id", "product_id", "sku")
#: The bytes that ":" and an index need behind a message id.
INDEX_ROOM = 6
#: What each product of an event keeps of the event's own properties, where it is a short scalar: an order of a thousand
#: products must not become a thousand copies of everything.
SHARED = ("order_id", "checkout_id", "cart_id", "list_id", "category", "currency", "coupon", "affiliation", "query", "placement")
SHARED_LENGTH = 256
#: Each product becomes a record; a small body must not become a large load.
MAX_PRODUCTS = 500


def read_message(
    message: Any, kind: str | None, envelope: dict[str, Any], origin: Origin, max_bytes: int | None = None
) -> Outcome:
    """What a message means, or why it is rejected.

    `kind` is the call that it came by, None for a batch, whose messages name their `type`. `envelope` is the batch around it,
    whose `context` and `sentAt` count where the message has none of its own. `max_bytes` is checked when given.
    """
    message_id = None
    try:
        if type(message) is not dict:
            raise RejectedError(Code.NOT_AN_OBJECT, "an event must be a JSON object")
        fields.refuse_deep(message)
        if max_bytes is not None and len(orjson.dumps(message)) > max_bytes:
            raise RejectedError(Code.EVENT_TOO_LARGE, f"an event may have at most {max_bytes} bytes")
        message_id = fields.as_id(message.get("messageId"), "messageId", INDEX_ROOM) or f"{random.getrandbits(128):032x}"
        return Taken(message_id, _records(message, message_id, kind or message.get("type"), envelope, origin))
    except RejectedError as error:
        return Rejected(message_id, error, message)


def _records(message: dict[str, Any], message_id: str, kind: Any, envelope: dict[str, Any], origin: Origin) -> list[Made]:
    user_id = fields.as_id(message.get("userId"), "userId")
    anonymous_id = fields.as_id(message.get("anonymousId"), "anonymousId")
    visitor = user_id or anonymous_id
    if visitor is None:
        raise RejectedError(Code.MISSING_USER, "userId or anonymousId is required", "userId")
    timestamp = _timestamp(message, envelope, origin.received_at)
    if kind == "identify":
        return _traits(message, visitor, timestamp, origin.source)
    properties = fields.as_object(message.get("properties"), "properties")
    if kind == "track":
        event = message.get("event")
        if event is None or event == "":
            raise RejectedError(Code.MISSING_NAME, "event, the name of what happened, is required", "event")
        if type(event) is not str:
            raise RejectedError(Code.INVALID_NAME, "event must be a string", "event")
        name = classify(event)
    elif kind == "page":
        name = PAGE_OF_AN_ITEM if any(properties.get(key) for key in ITEM_KEYS) else PAGE
        if message.get("name") is not None:
            properties = {"name": message["name"], **properties}
    else:
        raise RejectedError(Code.UNSUPPORTED_TYPE, "type must be track, page or identify", "type")
    context = fields.as_object(message.get("context", envelope.get("context")), "context")
    session_id = fields.as_id(properties.get("session_id"), "properties.session_id") or fields.as_id(
        context.get("sessionId"), "context.sessionId"
    )
    shared: dict[str, Any] = {
        "event_type": name.event_type,
        "user_id": visitor,
        "anonymous_id": anonymous_id,
        "session_id": session_id,
        "timestamp": timestamp,
        "received_at": origin.received_at,
        "source": origin.source,
    }
    products = properties.get("products")
    if name.of_an_item and products is not None and _item_id(properties, "properties") is None:
        return _one_a_product(shared, properties, products, message_id)
    return [_interaction(shared, properties, message_id, name)]


def _interaction(shared: dict[str, Any], properties: dict[str, Any], message_id: str, name: EventName) -> Interaction:
    item_id = _item_id(properties, "properties")
    if item_id is None and name.of_an_item:
        raise RejectedError(
            Code.MISSING_ITEM, f"a {name.event_type} needs an item: item_id, product_id, sku or products", "properties.item_id"
        )
    return Interaction(
        **shared,
        event_id=message_id,
        item_id=item_id,
        value=_value(properties, name.event_type, "properties"),
        recommendation_id=fields.as_id(properties.get("recommendation_id"), "properties.recommendation_id"),
        position=fields.position_or_none(properties.get("position")),
        properties={key: value for key, value in properties.items() if key not in _OWN_FIELD},
    )


def _one_a_product(shared: dict[str, Any], properties: dict[str, Any], products: Any, message_id: str) -> list[Made]:
    if type(products) is not list or not products:
        raise RejectedError(Code.MISSING_ITEM, "products must be a list with at least one product", "properties.products")
    if len(products) > MAX_PRODUCTS:
        raise RejectedError(Code.EVENT_TOO_LARGE, f"products may have at most {MAX_PRODUCTS} entries", "properties.products")
    event_type = shared["event_type"]
    slate = fields.as_id(properties.get("recommendation_id"), "properties.recommendation_id")
    common = {
        key: value
        for key in SHARED
        if type(value := properties.get(key)) in (int, float, bool) or (type(value) is str and len(value) <= SHARED_LENGTH)
    }
    made: list[Made] = []
    for index, entry in enumerate(products):
        field = f"properties.products.{index}"
        product = entry if type(entry) is dict else {"item_id": entry}
        item_id = _item_id(product, field)
        if item_id is None:
            raise RejectedError(Code.MISSING_ITEM, "a product needs item_id, product_id or sku", field)
        position = fields.position_or_none(product.get("position"))
        own = {key: value for key, value in product.items() if key not in _OWN_FIELD}
        value = _value(product, event_type, field)
        if value is None and len(products) == 1:
            value = _value(properties, event_type, "properties")
        made.append(
            Interaction(
                **shared,
                event_id=f"{message_id}:{index}",
                item_id=item_id,
                value=value,
                recommendation_id=fields.as_id(product.get("recommendation_id"), f"{field}.recommendation_id") or slate,
                # What was shown stood in this order; the order of what was bought says nothing.
                position=index if position is None and event_type == IMPRESSION else position,
                properties={**common, **own},
            )
        )
    return made


#: Properties that have a field of their own in an interaction.
_OWN_FIELD = frozenset({"item_id", "products", "recommendation_id", "session_id", "value"})


def _item_id(properties: dict[str, Any], field: str) -> str | None:
    for key in ITEM_KEYS:
        if (value := properties.get(key)) is not None and (found := fields.as_id(value, f"{field}.{key}")):
            return found
    return None


def _value(properties: dict[str, Any], event_type: str, field: str) -> float | None:
    """`value`, or a rating, or what it brought in. Money that is no number ("19,99 €") is left to the properties."""
    if (value := properties.get("value")) is not None:
        return fields.as_value(value, f"{field}.value")
    if event_type == RATE:
        rating = properties.get("rating")
        return None if rating is None else fields.as_value(rating, f"{field}.rating")
    if "revenue" in properties and (revenue := fields.number_or_none(properties["revenue"])) is not None:
        return revenue
    if "price" not in properties or (price := fields.number_or_none(properties["price"])) is None:
        return None
    quantity = fields.number_or_none(properties.get("quantity", 1))
    return fields.number_or_none(price * (1.0 if quantity is None else quantity))


def _timestamp(message: dict[str, Any], envelope: dict[str, Any], received_at: int) -> int:
    """When it happened by our clock: the client's time, moved by how far its clock was off when it sent the message."""
    field = "timestamp" if message.get("timestamp") is not None else "originalTimestamp"
    value = message.get(field)
    if value is None:
        return received_at
    happened = fields.as_millis(value, field)
    sent = message.get("sentAt", envelope.get("sentAt"))
    if sent is not None:
        happened += received_at - fields.as_millis(sent, "sentAt")
        if happened < 0:
            raise RejectedError(Code.INVALID_TIMESTAMP, f"{field} and sentAt together lie before 1970", field)
    return fields.refuse_future(happened, received_at, field)


def _traits(message: dict[str, Any], visitor: str, timestamp: int, source: str) -> list[Made]:
    """A user's catalogue entry; none without traits, since an entry replaces the one before."""
    traits = fields.as_object(message.get("traits"), "traits")
    if not traits:
        return []
    return [CatalogRecord(entity="user", entity_id=visitor, attributes=traits, timestamp=timestamp, source=source)]
