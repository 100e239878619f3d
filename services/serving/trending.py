"""The trending list of the online store, read at most once in a while for all requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from slipstream.stores.online import StoreUnavailableError

# Length of the list that is read: enough for a full slate without items that a visitor has seen.
DEPTH = 500

TrendingItem = tuple[str, float]


class Trending:
    """A cache of the trending list.

    A failure is remembered as long as a list would be, so that not every request waits for a store
    that hangs.

    Args:
        read: Returns the n items in most demand, highest first.
        refresh_s: Greatest age of the list.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        read: Callable[[int], Awaitable[Sequence[TrendingItem]]],
        refresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._refresh_s, self._clock = read, refresh_s, clock
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._failure: StoreUnavailableError | None = None
        # The list as last read, of any age; empty before the first read.
        self.last: Sequence[TrendingItem] = ()

    async def top(self) -> Sequence[TrendingItem]:
        """The list, at most `refresh_s` old. Raises `StoreUnavailableError`."""
        if self._is_old():
            async with self._reading:
                if self._is_old():  # else another request read it while this one waited
                    await self._refresh()
        if self._failure is not None:
            raise self._failure
        return self.last

    def _is_old(self) -> bool:
        return self._clock() - self._read_at > self._refresh_s

    async def _refresh(self) -> None:
        try:
            self.last, self._failure = await self._read(DEPTH), None
        except StoreUnavailableError as error:
            self._failure = error
        self._read_at = self._clock()
