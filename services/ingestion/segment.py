"""Reading of Segment's tracking calls into records.

Track, page, screen and group make interactions. Identify makes a user's catalogue entry. Alias and
identify make the record that a visitor is a user.

The calls are those of https://segment.com/docs/connections/spec/ and its e-commerce part;
`docs/events.md` describes the mapping.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from services.ingestion.bots import is_bot
from services.ingestion.event_names import EventName
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.interactions import INDEX_ROOM, ITEM_KEYS, read_interactions
from services.ingestion.people_calls import (
    Message,
    Records,
    doubt_of,
    read_alias,
    read_identify,
    taken_token,
    visitor_apart,
)
from services.ingestion.verdicts import NOT_KEPT, Acceptance, Origin, Outcome, Rejection
from slipstream.chassis.access.page_tokens import Unproven
from slipstream.contracts.access import Scope
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import VIEW
from slipstream.ingress import fields
from slipstream.ingress.fields import Code, RejectionError

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
        kind: The call that it came by; None in a batch, whose messages have their `type`.
        envelope: The batch around it. Its `context` and `sentAt` apply to messages without them.
        origin: Where the request came from.
        rules: Rules of the moment.
        max_bytes: Largest size as JSON; None if the whole body is smaller.
    """
    message_id = None
    try:
        if type(message) is not dict:
            raise RejectionError(Code.NOT_AN_OBJECT, "an event must be a JSON object")
        context = message.get("context", envelope.get("context"))
        token = taken_token(message, context)
        if rules.refuse_bots and is_bot(_agent(context) or origin.agent):
            raise RejectionError(
                Code.BOT, "the user agent is that of a crawler", "context.userAgent"
            )
        rules.budgets.refuse_event(message, max_bytes, "an event")
        given = message_id = fields.as_id(message.get("messageId"), "messageId", INDEX_ROOM)
        if message_id is None:
            message_id = f"{random.getrandbits(128):032x}"
        unproven = doubt_of(message, token, kind, rules) if origin.browser else None
        return Acceptance(
            message_id,
            _records(message, message_id, kind, envelope, origin, rules, unproven),
            given is not None,
            unproven=unproven,
        )
    except RejectionError as error:
        return Rejection(
            message_id,
            error,
            None if error.code in NOT_KEPT else rules.privacy.original(message, kind),
        )


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
    timestamp = _timestamp(message, envelope, origin.received_at)
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
            _time_field(message),
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
    return name, rules.privacy.published(properties)


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


def _time_field(message: Message) -> str:
    return "timestamp" if message.get("timestamp") is not None else "originalTimestamp"


def _timestamp(message: Message, envelope: Message, received_at: int) -> int:
    """The event's time by our clock, in milliseconds.

    The client's time is moved by as much as its clock was off when it sent the message.
    """
    field = _time_field(message)
    value = message.get(field)
    if value is None:
        return received_at
    happened = fields.as_millis(value, field)
    sent = message.get("sentAt", envelope.get("sentAt"))
    if sent is not None:
        happened += received_at - fields.as_millis(sent, "sentAt")
        if happened < 0:
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} and sentAt together lie before 1970", field
            )
    return fields.refuse_future(happened, received_at, field)
