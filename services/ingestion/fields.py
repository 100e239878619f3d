"""Read one field of a message that a client sent, or reject it. Written out by hand: this runs
several times an event.
"""

import math
from collections.abc import Iterable
from typing import Any

from services.ingestion.verdicts import Code, RejectionError
from slipstream.contracts.times import DAY_MS, parse_iso
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MAX_POSITION

# Deepest nesting of objects and lists in a message; consumers' JSON parsers stop somewhere beyond a
# hundred.
MAX_DEPTH = 32
# A number below this is a time in seconds, until the year 5138: as milliseconds it would lie before
# March 1973.
SECONDS_BELOW = 100_000_000_000


def as_object(value: Any, field: str) -> dict[str, Any]:
    """The object, empty when there is none."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise RejectionError(Code.INVALID_OBJECT, f"{field} must be an object", field)
    return value


def as_id(value: Any, field: str, room: int = 0) -> str | None:
    """The id as a string (clients also send whole numbers), None when it is missing, null or empty.

    `room` bytes are kept free for what will be appended.
    """
    if type(value) is int:
        value = str(value)
    if not value and (value is None or value == ""):
        return None
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
    """A place in a list, 0 or more; None where it is anything else, since shops also use the name
    for other things.
    """
    if value is None:
        return None
    number = number_or_none(value)
    if number is None or number < 0 or number > MAX_POSITION or number != int(number):
        return None
    return int(number)


def as_millis(value: Any, field: str) -> int:
    """A time, ISO 8601 (UTC where it names no zone) or milliseconds since the epoch, as
    milliseconds.
    """
    kind = type(value)
    if kind is str:
        try:
            millis = parse_iso(value)
        except ValueError:
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} is not an ISO 8601 time", field
            ) from None
    elif kind is int or kind is float:
        millis = int(value)
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


def refuse_future(millis: int, received_at: int, field: str) -> int:
    """The time, unless it is more than a day after it was received."""
    if millis > received_at + DAY_MS:
        raise RejectionError(
            Code.TIMESTAMP_IN_FUTURE, f"{field} lies more than 24 hours in the future", field
        )
    return millis


def refuse_deep(value: dict[str, Any] | list[Any], levels: int = MAX_DEPTH) -> None:
    """Reject a message that is nested deeper than `levels`."""
    inners: Iterable[Any] = value.values() if isinstance(value, dict) else value
    for inner in inners:
        kind = type(inner)
        if kind is dict or kind is list:
            if levels <= 1:
                raise RejectionError(
                    Code.NESTED_TOO_DEEPLY, f"objects and lists may be nested {MAX_DEPTH} deep"
                )
            refuse_deep(inner, levels - 1)
