"""Ids of recommendations: UUIDs of version 7 (RFC 9562), so that an id says when it was given.

The lake is partitioned by day. A slate is found by its id alone, and only its day is read.
"""

from os import urandom
from typing import Final

_LENGTH: Final = 32
# Digits of the time, in ms since the epoch, before that of the version.
_TIME_DIGITS: Final = 12
_VERSION: Final = "7"
# The digit of the variant, by the last two bits of a random one.
_VARIANT: Final = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}


def new_recommendation_id(now_ms: int) -> str:
    """A new id that is given at this time, as 32 hexadecimal digits."""
    digits = urandom(10).hex()
    return f"{now_ms:012x}{_VERSION}{digits[:3]}{_VARIANT[digits[3]]}{digits[4:19]}"


def given_at(recommendation_id: str) -> int | None:
    """The time (ms) at which an id was given; None for an id of another form."""
    if len(recommendation_id) != _LENGTH or recommendation_id[_TIME_DIGITS] != _VERSION:
        return None
    try:
        int(recommendation_id, 16)
    except ValueError:
        return None
    return int(recommendation_id[:_TIME_DIGITS], 16)
