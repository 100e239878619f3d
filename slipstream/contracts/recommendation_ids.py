"""Ids of recommendations: UUIDs of version 7 (RFC 9562), so that an id says when it was given.

The lake is partitioned by day. A slate is found by its id alone, and only its day is read.
"""

import uuid
from typing import Final

_LENGTH: Final = 32
# Digits of the time, in ms since the epoch, before that of the version.
_TIME_DIGITS: Final = 12
_VERSION: Final = "7"


def new_recommendation_id(now_ms: int) -> str:
    """A new id that is given at this time, as 32 hexadecimal digits."""
    # The random part of version 4, which has the variant in the same place.
    return f"{now_ms:0{_TIME_DIGITS}x}{_VERSION}{uuid.uuid4().hex[_TIME_DIGITS + 1 :]}"


def given_at(recommendation_id: str) -> int | None:
    """The time (ms) at which an id was given; None for an id of another form."""
    if len(recommendation_id) != _LENGTH or recommendation_id[_TIME_DIGITS] != _VERSION:
        return None
    try:
        int(recommendation_id, 16)
    except ValueError:
        return None
    return int(recommendation_id[:_TIME_DIGITS], 16)
