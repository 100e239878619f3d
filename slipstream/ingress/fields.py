"""Readers of single fields of a client's data: each returns the checked value or rejects.

Written out by hand instead of with pydantic, since they run several times an event.
"""

import math
from collections.abc import Iterable
from typing import Any

import orjson

from slipstream.contracts.times import DAY_MS, HOUR_MS, parse_iso
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MAX_POSITION
from slipstream.ingress.rejections import Code, RejectionError

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
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a finite number", field)
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
