"""Marks of erased visitors in Redis, which tell late records (`slipstream.contracts.late_records`).

Two sorted sets in one slot: the digests of visitors by each of a mark's two times.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from slipstream.contracts.late_records import ErasureMark
from slipstream.stores.connection import translated
from slipstream.stores.keys import Keys

_AT_ONCE: Final = 5_000


class ErasureMarks:
    """The marks. Methods raise `StoreUnavailableError`."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._redis = client
        self._keys = keys.erased("events"), keys.erased("slates")

    @translated()
    def put(self, marks: Mapping[str, ErasureMark]) -> None:
        """Add marks by digest, where none of a later time is."""
        digests = [*marks]
        for begin in range(0, len(digests), _AT_ONCE):
            part = digests[begin : begin + _AT_ONCE]
            for place, key in enumerate(self._keys):
                self._redis.zadd(key, {digest: marks[digest][place] for digest in part}, gt=True)

    @translated()
    def forget(self, before_ms: int) -> None:
        """Delete the marks of erasures that were asked for before a time (ms)."""
        for key in self._keys:
            self._redis.zremrangebyscore(key, "-inf", before_ms)

    @translated()
    def of(self, digests: Collection[str]) -> dict[str, ErasureMark]:
        """The marks of those among these digests that are marked."""
        if not self._redis.exists(self._keys[0]):
            return {}
        ordered = list(digests)
        events, slates = (self._redis.zmscore(key, ordered) for key in self._keys)
        return {
            digest: ErasureMark(int(asked_at), int(slates_until or asked_at))
            for digest, asked_at, slates_until in zip(ordered, events, slates, strict=True)
            if asked_at is not None
        }

    @translated()
    def count(self) -> int:
        """The number of marked visitors."""
        return int(self._redis.zcard(self._keys[0]))
