"""Work of the event loop in slices, so that small requests have their turn between them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, TypeVar

T = TypeVar("T")

# Longest time that one request holds the event loop before others have a turn.
SLICE_S: Final = 0.002


# A body of more bytes is a large one.
LARGE_BYTES: Final = 32_768


class LargeRequests:
    """Turns of large requests, one after another. Used in one event loop.

    With many at work, a small request would wait for a slice of each. It comes back to the event
    loop several times.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def turn(self, large: bool) -> AbstractAsyncContextManager[None]:
        """The turn of a request: at once, or for a large one after those before it."""
        return self._lock if large else nullcontext()


async def in_slices(items: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """The items, with a turn for others whenever they have taken `slice_s` seconds in all."""
    until = time.perf_counter() + slice_s
    for item in items:
        yield item
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + slice_s
