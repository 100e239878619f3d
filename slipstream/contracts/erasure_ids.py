"""Ids of erasures, which are those of their receipts too, and tell when they were given out."""

import secrets
from typing import Final

from slipstream.contracts.times import DAY_MS

# The first digits, in hex, are the time (ms); the others are random.
_TIME_DIGITS: Final = 12
_RANDOM_BYTES: Final = 10
# For so long a request may be on its way to those who keep receipts.
_ON_ITS_WAY_MS: Final = DAY_MS
# How far clocks of different machines may stand apart.
_LEEWAY_MS: Final = 300_000


def new_erasure_id(now_ms: int) -> str:
    """A new id: 32 digits in hex, which begin with the time."""
    return f"{now_ms:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"


def may_be_on_its_way(erasure_id: str, now_ms: int) -> bool:
    """Whether a request that nobody knows yet may have been accepted within the last day.

    By the id's own time: one that was made up passes, too, and is told of nothing but that.
    """
    try:
        given_at = int(erasure_id[:_TIME_DIGITS], 16)
    except ValueError:
        return False
    whole = len(erasure_id) == _TIME_DIGITS + 2 * _RANDOM_BYTES
    return whole and -_LEEWAY_MS <= now_ms - given_at <= _ON_ITS_WAY_MS
