"""The trending list of the online store, read at most once in a while for all requests."""

import asyncio
import time
from collections.abc import Callable, Sequence

from services.serving.deadlines import Budget
from services.serving.store_reads import StoreReads, TrendingItem
from slipstream.stores.online import StoreUnavailableError

# Length of the list that is read: enough for a full slate without items that a visitor has seen.
DEPTH = 500


class Trending:
    """A cache of the trending list.

    A failure is remembered as long as a list would be, so that not every request waits for a store
    that hangs. All who need a fresh list wait for the same read, each within its own budget.

    Args:
        store: Reads of the online store.
        refresh_s: Greatest age of the list.
        clock: Seconds of a monotonic clock.
        window: Window of popular items whose list is read instead; empty for the trending list.
        depth: Length of the list that is read.
    """

    def __init__(
        self,
        store: StoreReads,
        refresh_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        window: str = "",
        depth: int = DEPTH,
    ) -> None:
        self._store, self._refresh_s, self._clock = store, refresh_s, clock
        self._window, self._depth = window, depth
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._failure: StoreUnavailableError | None = None
        # The list as last read, of any age; empty before the first read.
        self.last: Sequence[TrendingItem] = ()

    async def top(self, budget: Budget) -> Sequence[TrendingItem]:
        """The list, at most `refresh_s` old. Raises `StoreUnavailableError`."""
        if self._clock() - self._read_at > self._refresh_s:
            if self._reading is None:
                self._reading = asyncio.create_task(self._refresh())
            await self._store.wait(self._reading, budget)
        if self._failure is not None:
            raise self._failure
        return self.last

    async def _refresh(self) -> None:
        try:
            self.last = await self._store.trending(self._depth, self._store.budget(), self._window)
            self._failure = None
        except StoreUnavailableError as error:
            self._failure = error
        finally:
            self._reading = None
        self._read_at = self._clock()
