"""Ids of recommendations, and the reading of `recommendations.v1`.

Ids are UUIDs of version 7 (RFC 9562), which say when they were given: the lake is partitioned by
day, and a slate that is found by its id alone has only its day read. A slate is decoded for every
answer of serving, so its reader is a typed one.
"""

import os
from hashlib import blake2b
from itertools import count
from typing import Final

import msgspec

from slipstream.contracts.events import Slate, SlateItem
from slipstream.contracts.vocabulary import SHOWN

_LENGTH: Final = 32
# Digits of the time, in ms since the epoch, before that of the version.
_TIME_DIGITS: Final = 12
_VERSION: Final = "7"
# The digit of the variant, by the last two bits of a random one.
_VARIANT: Final = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}


class _RandomDigits:
    """Unpredictable digits: a keyed hash (RFC 7693) of a counter.

    The key is the system's. Asking the system for each id would let another thread take the
    interpreter in every request.
    """

    def __init__(self) -> None:
        self._renew()
        # A child would go on as its parent does.
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._key, self._numbers = os.urandom(32), count()

    def next(self) -> str:
        """The next 20 hexadecimal digits."""
        number = next(self._numbers).to_bytes(8)
        return blake2b(number, key=self._key, digest_size=10).hexdigest()


_random = _RandomDigits()


def new_recommendation_id(now_ms: int) -> str:
    """A new id that is given at this time, as 32 hexadecimal digits."""
    digits = _random.next()
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


# Most characters of an id that has few enough bytes whatever they are.
_PLAIN_ID: Final = 64
_YEAR_9999_MS: Final = 253_402_300_800_000
_NO_CIRCUMSTANCES: Final = msgspec.Raw(b"{}")


class RecordedSlate(msgspec.Struct, frozen=True):
    """A slate as readers take it: the fields of `Slate`, with its circumstances as JSON.

    Decoding takes a fifth of the time that `Slate` takes, most of which went to circumstances that
    readers only pass on.
    """

    recommendation_id: str
    user_id: str
    timestamp: int
    items: list[SlateItem]
    answered_by: str
    model_version: str | None = None
    experiment: str = ""
    variant: str = "champion"
    placement: str = ""
    placement_revision: int = 0
    rules: list[list[str]] = []
    propensities: list[float] = []
    sampled: bool = False
    features: dict[str, float] = {}
    latency_ms: float = 0.0
    purpose: str = SHOWN
    circumstances: msgspec.Raw = _NO_CIRCUMSTANCES
    substituted: str = ""
    shadow_of: str = ""

    @property
    def circumstances_json(self) -> str:
        """The circumstances, a JSON object; empty where none are recorded."""
        return "" if self.circumstances == _NO_CIRCUMSTANCES else str(self.circumstances, "utf-8")


_DECODER: Final = msgspec.json.Decoder(RecordedSlate)


def read_slate(value: bytes) -> RecordedSlate:
    """The slate in these bytes. `Slate` judges those that are unlike what serving writes.

    Circumstances are known to be a JSON object and UTF-8, no more. Raises ValueError, pydantic's
    as a rule.
    """
    try:
        slate = _DECODER.decode(value)
        if _is_plain(slate):
            return slate
    except (ValueError, RecursionError):
        pass
    return _DECODER.decode(Slate.model_validate_json(value).model_dump_json())


def _is_plain(slate: RecordedSlate) -> bool:
    """Whether `Slate` has nothing against it that the types do not say."""
    return (
        0 < len(slate.recommendation_id) <= _PLAIN_ID
        and 0 < len(slate.user_id) <= _PLAIN_ID
        and "\x00" not in slate.recommendation_id
        and "\x00" not in slate.user_id
        and 0 <= slate.timestamp < _YEAR_9999_MS
        and str(slate.circumstances, "utf-8").startswith("{")
    )
