"""Readers of a client's data: each returns the checked value, or rejects with a stable code.

Single fields are read by functions written out by hand instead of with pydantic, since they run
several times an event. Attributes of items that other services read have one form each; all others
are free.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import orjson

from slipstream.contracts.spellings import item_field, truth_of
from slipstream.contracts.times import DAY_MS, HOUR_MS, parse_iso
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MAX_POSITION


class Code(StrEnum):
    """Reason why data is rejected. Stable: clients and the dead letters' tools branch on it."""

    NOT_AN_OBJECT = "not_an_object"
    EVENT_TOO_LARGE = "event_too_large"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    UNSUPPORTED_TYPE = "unsupported_type"
    MISSING_USER = "missing_user"
    MISSING_GROUP = "missing_group"
    MISSING_ITEM = "missing_item"
    MISSING_NAME = "missing_name"
    INVALID_NAME = "invalid_name"
    INVALID_ID = "invalid_id"
    INVALID_OBJECT = "invalid_object"
    INVALID_VALUE = "invalid_value"
    INVALID_TIMESTAMP = "invalid_timestamp"
    TIMESTAMP_IN_SECONDS = "timestamp_in_seconds"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    PLAN_VIOLATION = "plan_violation"
    SCOPE_MISSING = "scope_missing"
    BOT = "bot"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_LINKS = "too_many_links"


class RejectionError(Exception):
    """Raised for data that breaks a rule. `field` is its path in the data as it was sent.

    `reason` may name fields but quotes no value, since values may be personal.
    """

    def __init__(self, code: Code, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.field = code, reason, field


# Deepest nesting of objects and lists in an event. Parsers of JSON give up somewhere beyond a
# hundred levels, and every consumer must be able to parse what is on a topic.
MAX_DEPTH = 32
# Bytes of JSON in one event, as in Segment's tracking API.
MAX_EVENT_BYTES = 32_768
# How far after its arrival an event may say that it happened: client clocks and time zones err.
MAX_AHEAD_MS = DAY_MS
# A smaller number is a time in seconds, until the year 5138. As milliseconds it would lie before
# March 1973.
SECONDS_BELOW = 100_000_000_000


def as_object(value: Any, field: str) -> dict[str, Any]:
    """The object, empty where the value is missing or null."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise RejectionError(Code.INVALID_OBJECT, f"{field} must be an object", field)
    return value


def as_id(value: Any, field: str, room: int = 0) -> str | None:
    """The id as a string; clients also send whole numbers. None where it is missing, null or empty.

    `room` is the number of bytes that must stay free for a suffix.
    """
    if value is None or value == "":
        return None
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise RejectionError(Code.INVALID_ID, f"{field} must be a string", field)
    if "\x00" in value:  # PostgreSQL's text can't hold it
        raise RejectionError(Code.INVALID_ID, f"{field} has a NUL character", field)
    # A character has at most four bytes, so that most ids need not be encoded to be measured.
    if len(value) > (MAX_ID_BYTES - room) // 4 and len(value.encode()) > MAX_ID_BYTES - room:
        raise RejectionError(
            Code.INVALID_ID, f"{field} has more than {MAX_ID_BYTES - room} bytes", field
        )
    return value


def as_value(value: Any, field: str) -> float:
    """A finite number, also when sent as a string."""
    number = number_or_none(value)
    if number is None:
        raise RejectionError(
            Code.INVALID_VALUE, f"{field} must be a finite number, such as 12.90", field
        )
    return number


def number_or_none(value: Any) -> float | None:
    """A finite number, also when sent as a string; None where it is anything else."""
    kind = type(value)
    if kind is not float and kind is not int and kind is not str:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def position_or_none(value: Any) -> int | None:
    """A place in a list, counted from 0; None where the value is anything else.

    Not rejected, since shops also use the name `position` for other things.
    """
    if value is None:
        return None
    number = number_or_none(value)
    if number is None or number < 0 or number > MAX_POSITION or number != int(number):
        return None
    return int(number)


def as_millis(value: Any, field: str) -> int:
    """Milliseconds since the epoch, from such a number or from ISO 8601 (UTC if without a zone)."""
    kind = type(value)
    if kind is str:
        try:
            millis = parse_iso(value)
        except ValueError:
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} is not an ISO 8601 time", field
            ) from None
    elif kind is int or kind is float:
        try:
            millis = int(value)
        except (ValueError, OverflowError):  # NaN or infinity, which not every JSON parser refuses
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} is not a finite number", field
            ) from None
        if 0 < millis < SECONDS_BELOW:
            raise RejectionError(
                Code.TIMESTAMP_IN_SECONDS,
                f"{field} looks like seconds; send milliseconds or ISO 8601",
                field,
            )
    else:
        raise RejectionError(
            Code.INVALID_TIMESTAMP,
            f"{field} must be ISO 8601 or milliseconds since the epoch",
            field,
        )
    if millis < 0:
        raise RejectionError(Code.INVALID_TIMESTAMP, f"{field} lies before 1970", field)
    return millis


def time_field(message: Mapping[str, Any]) -> str:
    """Name of the field with the message's time."""
    return "timestamp" if message.get("timestamp") is not None else "originalTimestamp"


def timestamp_of(message: Mapping[str, Any], envelope: Mapping[str, Any], received_at: int) -> int:
    """The event's time by our clock, in milliseconds.

    The client's time is moved by as much as its clock was off when it sent the message.
    """
    field = time_field(message)
    value = message.get(field)
    if value is None:
        return received_at
    happened = as_millis(value, field)
    sent = message.get("sentAt", envelope.get("sentAt"))
    if sent is not None:
        happened += received_at - as_millis(sent, "sentAt")
        if happened < 0:
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} and sentAt together lie before 1970", field
            )
    return happened


def refuse_future(
    millis: int, received_at: int, field: str, max_ahead_ms: int = MAX_AHEAD_MS
) -> int:
    """The time, rejected where it is more than `max_ahead_ms` after the moment of receipt."""
    if millis > received_at + max_ahead_ms:
        hours = max_ahead_ms / HOUR_MS
        raise RejectionError(
            Code.TIMESTAMP_IN_FUTURE, f"{field} lies more than {hours:g} hours in the future", field
        )
    return millis


def refuse_deep(
    value: dict[str, Any] | list[Any], levels: int = MAX_DEPTH, most: int | None = None
) -> None:
    """Reject data in which objects and lists are nested deeper than `levels`.

    `most` is the number that the reason names; `levels` if None.
    """
    inners: Iterable[Any] = value.values() if isinstance(value, dict) else value
    for inner in inners:
        kind = type(inner)
        if kind is dict or kind is list:
            if levels <= 1:
                raise RejectionError(
                    Code.NESTED_TOO_DEEPLY, f"objects and lists may be nested {most or levels} deep"
                )
            refuse_deep(inner, levels - 1, most or levels)


def refuse_large(value: dict[str, Any], max_bytes: int, noun: str) -> None:
    """Reject an object of more than `max_bytes` bytes of JSON; `noun` names it in the reason.

    Also rejects values that JSON on the topics can't hold, such as integers of over 64 bits. The
    nesting must have been checked before.
    """
    try:
        size = len(orjson.dumps(value))
    except orjson.JSONEncodeError as error:
        raise RejectionError(
            Code.INVALID_VALUE, f"{noun} holds a value that can't be kept: {error}"
        ) from None
    if size > max_bytes:
        raise RejectionError(Code.EVENT_TOO_LARGE, f"{noun} may have at most {max_bytes} bytes")


def check_item_attributes(attributes: dict[str, Any], path_of: Callable[[str], str]) -> None:
    """Reject an item with attributes of a wrong form; null is as good as missing.

    Args:
        path_of: Gives an attribute's path in the data as it was sent, for the rejection.
    """
    for name, check in _CHECKS.items():
        if (value := attributes.get(name)) is not None:
            check(value, path_of(name))


def told_availability(attributes: Mapping[str, Any]) -> bool | None:
    """Whether an item may be recommended by an attribute of another name: `in_stock: false`.

    None where no attribute says so.
    """
    told = (truth_of(attributes[n]) for n in attributes if item_field(n) == "available")
    return next((truth for truth in told if truth is not None), None)


def naming_hints(attributes: Mapping[str, Any]) -> list[str]:
    """Hints about attributes that other services read, but under another name than was sent."""
    hints = []
    for name in attributes:
        field = item_field(name)
        if field is None or field in attributes or field == "item_id":
            continue
        if field != "available":
            hints.append(f"{name} is kept under this name; what is read as {field} is `{field}`")
        elif truth_of(attributes[name]) is None:
            hints.append(f"{name} is neither true nor false, so it says nothing of `available`")
        else:
            hints.append(f"{name} is read as `available`")
    return hints


def _price(value: Any, field: str) -> None:
    if type(value) not in (int, float) or not value >= 0:
        raise RejectionError(
            Code.INVALID_VALUE,
            f"{field} must be a number of at least 0; send its currency in `currency`",
            field,
        )


def _text(value: Any, field: str) -> None:
    if type(value) is not str:
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a string", field)


def _texts(value: Any, field: str) -> None:
    if type(value) is not list or any(type(text) is not str for text in value):
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a list of strings", field)


_CHECKS: Final[dict[str, Callable[[Any, str], object]]] = {
    "title": _text,
    "description": _text,
    "categories": _texts,
    "price": _price,
    "image_url": _text,
    "expires_at": as_millis,
    "published_at": as_millis,
}
