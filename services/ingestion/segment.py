"""Reading of Segment's tracking calls into records.

Track, page, screen and group make interactions: with an event's item, each of its products, and
each of its impressions. Identify makes a user's catalogue entry. Alias and identify make the record
that a visitor is a user. The calls are those of https://segment.com/docs/connections/spec/ and its
e-commerce part; `docs/events.md` describes the mapping.

Well-meaning crawlers name themselves in their user agent. Those that hide are not detected.
"""

import re
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from services.ingestion import fields
from services.ingestion.budgets import SHARED, SHARED_LENGTH, Budgets, setting
from services.ingestion.event_names import REFUNDS, EventName, token
from services.ingestion.fields import Code, RejectionError
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import NOT_KEPT, Acceptance, Origin, Outcome, Rejection
from services.ingestion.people_calls import (
    Message,
    Records,
    doubt_of,
    read_alias,
    read_identify,
    taken_token,
    visitor_apart,
)
from services.ingestion.rejected_messages import settle
from slipstream.chassis.access.page_tokens import Unproven
from slipstream.contracts.access import Scope
from slipstream.contracts.events import NewInteraction
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import (
    CONVERSIONS,
    IMPRESSION,
    RATE,
    REFUNDED,
    REMOVE,
    VIEW,
)

# Cubot is a make of phones. Libraries (requests, okhttp, curl) are not listed, since a shop's
# servers send with them.
_BOTS = re.compile(
    r"(?<!cu)bot(?![a-z])|crawl|spider|slurp|archiver|headless|phantomjs|lighthouse|inspectiontool"
    r"|googleother|mediapartners|feedfetcher|facebookexternalhit|facebookcatalog|meta-external"
    r"|bingpreview|link ?preview|page ?speed|pingdom|uptime|statuscake|site24x7|gtmetrix"
    r"|screaming frog|google-read-aloud|chatgpt-user|perplexity-user|prerender|monitis|nagios",
    re.IGNORECASE,
)
_LONGEST = 512


def bot_word(agent: str) -> str:
    """The word by which a `User-Agent` names a crawler, a previewer or a monitor; else empty."""
    return _bot_word(agent[:_LONGEST])


@lru_cache(4096)
def _bot_word(agent: str) -> str:
    found = _BOTS.search(agent)
    return found[0] if found else ""


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
        message_id: Id of the event; products and impressions get it with their index.
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
    _check_money(properties, event_type, "properties")
    made: list[NewInteraction] = []
    listed_items: set[str] = set()
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
                # Equal products of an order, such as two sizes, speak for the item once.
                weight=0.0 if item_id in listed_items else None,
            )
        )
        listed_items.add(item_id)
    return made


# Types with a value that is counted: a sale without its value would be too little for ever.
_WITH_MONEY: Final = CONVERSIONS | {REMOVE}
_MONEY: Final = ("revenue", "price", "quantity", "total")


def _value(properties: dict[str, Any], event_type: str, field: str) -> float | None:
    """`value`, else a rating, else the revenue, else price times quantity.

    Money of a cart, a purchase or a refund that is no number ("19,99 €") is rejected. That of other
    events, such as views, stays a property.
    """
    _check_money(properties, event_type, field)
    if (value := properties.get("value")) is not None:
        return fields.as_value(value, f"{field}.value")
    if event_type == RATE:
        rating = properties.get("rating")
        return None if rating is None else fields.as_value(rating, f"{field}.rating")
    if (revenue := fields.number_or_none(properties.get("revenue"))) is not None:
        return revenue
    if (price := fields.number_or_none(properties.get("price"))) is None:
        return None
    quantity = fields.number_or_none(properties.get("quantity"))
    return price if quantity is None else fields.number_or_none(price * quantity)


def _check_money(properties: dict[str, Any], event_type: str, field: str) -> None:
    """Reject money that is not a number, where it is counted; it may be missing, null or empty."""
    if event_type in _WITH_MONEY:
        for name in _MONEY:
            if (given := properties.get(name)) is not None and given != "":
                fields.as_value(given, f"{field}.{name}")


PAGE = EventName("page", of_an_item=False)
SCREEN = EventName("screen", of_an_item=False)
VIEW_OF_AN_ITEM = EventName(VIEW, of_an_item=True)
GROUP = "group"
LONGEST_NAME = 256


def read_message(
    message: Any,
    kind: str | None,
    envelope: Message,
    origin: Origin,
    rules: IntakeRules,
    max_bytes: int | None = None,
) -> Outcome:
    """Read a message into records, or reject it.

    Args:
        message: The message as parsed JSON of any kind.
        kind: The call that it came by; None in a batch, where messages have a `type`.
        envelope: The batch around it. Its `context` and `sentAt` apply to messages without them.
        origin: Where the request came from.
        max_bytes: Largest size as JSON; None if the whole body is smaller.
    """
    message_id = None
    try:
        if type(message) is not dict:
            raise RejectionError(Code.NOT_AN_OBJECT, "an event must be a JSON object")
        context = message.get("context", envelope.get("context"))
        token = taken_token(message, context)
        agent = _agent(context)
        if rules.refuse_bots and (word := bot_word(agent or origin.agent)):
            raise RejectionError(
                Code.BOT,
                f"the user agent has {word!r} in it: it is a bot's, and is left out; "
                f"{setting('bot_filter')}=false takes bots",
                "context.userAgent" if agent else "User-Agent",
            )
        rules.budgets.refuse_event(message, max_bytes, "an event")
        given = message_id = fields.as_id(message.get("messageId"), "messageId", INDEX_ROOM)
        if message_id is None:
            message_id = secrets.token_hex(16)
        unproven = doubt_of(message, token, kind, rules) if origin.browser else None
        records = _records(message, message_id, kind, envelope, origin, rules, unproven)
        return Acceptance(
            message_id,
            records,
            given is not None,
            unproven=unproven,
            remark="" if origin.imported else _remark(message, records, origin, rules),
        )
    except RejectionError as error:
        kept = None if error.code in NOT_KEPT else rules.privacy.original(message, kind)
        if type(kept) is dict:
            settle(kept, message, message_id, envelope, origin)
        return Rejection(message_id, error, kept)


_NO_ZONE: Final = "its time has no zone, and is taken as UTC"
_ZONE = re.compile(r"([+-]\d\d(:?\d\d)?)$")
# How far ahead a client's clock may be without a word.
_AHEAD_MS: Final = 300_000


def _remark(message: Message, records: Records, origin: Origin, rules: IntakeRules) -> str:
    """What people may have meant otherwise: an unknown name, a time without a zone or ahead."""
    first = records[0] if records else None
    if type(first) is not NewInteraction:
        return ""
    remark, event, told = "", message.get("event"), message.get(fields.time_field(message))
    if first.item_id is not None and type(event) is str:
        remark = rules.names.classify(event).remark
    if type(told) is str and told[-1:] != "Z" and not _ZONE.search(told, 10):
        remark = f"{remark}; {_NO_ZONE}" if remark else _NO_ZONE
    if first.timestamp > origin.received_at + _AHEAD_MS:
        minutes = (first.timestamp - origin.received_at) // 60_000
        ahead = (
            f"its time is {minutes} minutes ahead, and until then it is the visitor's newest event"
        )
        remark = f"{remark}; {ahead}" if remark else ahead
    return remark


def _records(
    message: Message,
    message_id: str,
    kind: str | None,
    envelope: Message,
    origin: Origin,
    rules: IntakeRules,
    unproven: Unproven | None,
) -> Records:
    call = kind or message.get("type")
    user_id = fields.as_id(message.get("userId"), "userId")
    anonymous_id = fields.as_id(message.get("anonymousId"), "anonymousId")
    visitor = user_id or anonymous_id
    if visitor is None:
        raise RejectionError(Code.MISSING_USER, "userId or anonymousId is required", "userId")
    timestamp = fields.timestamp_of(message, envelope, origin.received_at)
    if timestamp > origin.received_at:
        fields.refuse_future(timestamp, origin.received_at, fields.time_field(message))
    if call in ("identify", "alias") and Scope.IDENTIFY not in origin.scopes:
        raise RejectionError(
            Code.SCOPE_MISSING, "the write key may not identify visitors: scope identify", "type"
        )
    if call == "identify":
        return read_identify(message, user_id, anonymous_id, timestamp, origin, rules, unproven)
    if call == "alias":
        return read_alias(message, user_id, anonymous_id, timestamp, origin, unproven)
    read = _EVENTS.get(call) if type(call) is str else None
    if read is None:
        raise RejectionError(
            Code.UNSUPPORTED_TYPE,
            "type must be track, page, screen, identify, group or alias",
            "type",
        )
    name, properties = read(message, rules)
    if (
        not origin.imported
        and rules.max_late_ms is not None
        and timestamp < origin.received_at - rules.max_late_ms
    ):
        hours = rules.max_late_ms / HOUR_MS
        raise RejectionError(
            Code.TIMESTAMP_TOO_OLD,
            f"it happened more than {hours:g} hours ago; send history to /v1/import",
            fields.time_field(message),
        )
    context = fields.as_object(message.get("context", envelope.get("context")), "context")
    session_id = fields.as_id(
        properties.get("session_id"), "properties.session_id"
    ) or fields.as_id(context.get("sessionId"), "context.sessionId")
    shared: dict[str, Any] = {
        "user_id": visitor if unproven is None else visitor_apart(user_id, anonymous_id),
        "anonymous_id": anonymous_id,
        "session_id": session_id,
        "timestamp": timestamp,
        "received_at": origin.received_at,
        "source": origin.source,
    }
    if origin.imported:
        shared["imported"] = True
    return read_interactions(  # type: ignore[return-value]
        shared, properties, message_id, name, rules.budgets
    )


def _track(message: Message, rules: IntakeRules) -> tuple[EventName, Message]:
    properties = fields.as_object(message.get("properties"), "properties")
    event = message.get("event")
    if event is None or event == "":
        raise RejectionError(
            Code.MISSING_NAME, "event, the name of what happened, is required", "event"
        )
    if type(event) is not str or len(event) > LONGEST_NAME:
        raise RejectionError(
            Code.INVALID_NAME,
            f"event must be a string of at most {LONGEST_NAME} characters",
            "event",
        )
    name = rules.names.classify(event)
    if rules.plan is not None:
        rules.plan.check(event, properties)
    properties = rules.privacy.published(properties)
    if name.event_type == REMOVE and token(event) in REFUNDS:
        properties = {**properties, REFUNDED: True}
    return name, properties


def _page(message: Message, rules: IntakeRules) -> tuple[EventName, Message]:
    return _shown(PAGE, message, rules)


def _screen(message: Message, rules: IntakeRules) -> tuple[EventName, Message]:
    return _shown(SCREEN, message, rules)


def _shown(plain: EventName, message: Message, rules: IntakeRules) -> tuple[EventName, Message]:
    """A page or a screen. If it shows an item, it is a view of that."""
    properties = fields.as_object(message.get("properties"), "properties")
    for key in ("category", "name"):
        if message.get(key) is not None:
            properties = {key: message[key], **properties}
    return VIEW_OF_AN_ITEM if any(
        properties.get(key) for key in ITEM_KEYS
    ) else plain, rules.privacy.published(properties)


def _group(message: Message, rules: IntakeRules) -> tuple[EventName, Message]:
    """A visitor's membership in a group, as an event.

    A catalogue entry of the user would replace the traits that `identify` sent.
    """
    group_id = fields.as_id(message.get("groupId"), "groupId")
    if group_id is None:
        raise RejectionError(Code.MISSING_GROUP, "groupId is required", "groupId")
    traits = fields.as_object(message.get("traits"), "traits")
    properties: Message = {"groupId": group_id}
    if traits:
        properties["traits"] = rules.privacy.published(traits)
    return EventName(GROUP, of_an_item=False), properties


_EVENTS: Final[dict[str, Callable[[Message, IntakeRules], tuple[EventName, Message]]]] = {
    "track": _track,
    "page": _page,
    "screen": _screen,
    "group": _group,
}


def _agent(context: Any) -> str:
    """The visitor's user agent from the message's context, or an empty text."""
    agent = context.get("userAgent") if type(context) is dict else None
    return agent if type(agent) is str else ""
