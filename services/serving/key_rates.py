"""Rates of keys: how many lists one key may ask for, in one process of serving."""

import math
import time
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache  # type: ignore[import-untyped, unused-ignore]

from slipstream.chassis.errors import TooManyRequestsError

# Most keys whose rates are known. The one that asked longest ago may ask for a whole second again.
_MOST_KEYS: Final = 10_000


class KeyRates:
    """Token buckets of keys, which hold what may be asked for in a second. Of one event loop.

    Args:
        lists_per_s: Lists that a key may ask for in a second; 0 for any number.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, lists_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = lists_per_s, clock
        # For each key, the time at which its bucket is full again.
        self._full_at: LRUCache[str, float] = LRUCache(_MOST_KEYS)

    def take(self, key: str, lists: int = 1) -> None:
        """Count lists that a key asks for. Raises `TooManyRequestsError` where there are too many.

        A request for more lists than a bucket holds is taken from a full one, and paid for later.
        """
        if not self._per_s:
            return
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now)
        wait_s = full_at - now + min(lists / self._per_s, 1.0) - 1.0
        if wait_s > 1e-9:
            raise TooManyRequestsError(
                f"{key} asks for more than {self._per_s:g} lists a second "
                "(SLIPSTREAM_SERVING__LISTS_PER_S)",
                retry_after_s=math.ceil(wait_s),
                limit=math.floor(self._per_s),
            )
        self._full_at[key] = full_at + lists / self._per_s
