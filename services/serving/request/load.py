"""The load of a process: how long one more request would wait, and whether it is taken.

By Little's law, a request that comes waits for the requests in work, each for as long as lies
between two lists (J. D. C. Little, A Proof for the Queuing Formula L = λW, 1961). One of many lists
counts once, since it lets others go first between two of its lists. A request that would come too
late is refused before anything is made for it, and latency does not grow without end.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cachetools import LRUCache

from slipstream.chassis.errors import ServiceError, TooManyRequestsError

# Share of the newest list in the mean time between lists. A single pause must not look like
# load.
_NEWEST: Final = 0.02


class OverloadedError(ServiceError):
    """A request would wait longer than it may."""

    status, code, title = 503, "overloaded", "There is more to do than can be done in time"

    def __init__(self, wait_s: float, longest_s: float) -> None:
        super().__init__(
            f"The request would wait for about {wait_s * 1000:.0f} ms, and may for "
            f"{longest_s * 1000:.0f}; add processes or replicas of serving, or allow more "
            "(SLIPSTREAM_SERVING__LONGEST_WAIT_S)",
            headers={"Retry-After": str(max(1, math.ceil(wait_s)))},
        )


class Load:
    """The requests in work, and the time that a list takes. Used in one event loop.

    Args:
        longest_s: Longest wait with which a request is taken.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s, self._clock = longest_s, clock
        self._requests, self._list_s, self._since = 0, 0.0, 0.0

    @property
    def wait_s(self) -> float:
        """The time until a request that comes now would begin to be answered."""
        return self._requests * self._list_s

    @contextmanager
    def taken(self, lists: int = 1) -> Iterator[None]:
        """Count a request for `lists` lists for as long as the block runs.

        Raises `OverloadedError` where it would wait too long. A request that meets nobody is
        always taken.
        """
        if (wait_s := self.wait_s) > self._longest_s:
            raise OverloadedError(wait_s, self._longest_s)
        if not self._requests:
            self._since = self._clock()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            if lists:
                now = self._clock()
                # Time with nobody in work says nothing of what a list takes.
                took_s, self._since = (now - self._since) / lists, now
                weight = 1 - (1 - _NEWEST) ** lists
                self._list_s += weight * (min(took_s, self._longest_s) - self._list_s)


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


class Turnstile:
    """A gate that lets one task on in each turn of the event loop, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def passed(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)
