"""Work of the event loop in slices, so that small requests have their turn between them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

# Longest time that one request holds the event loop before others have a turn.
SLICE_S: Final = 0.002


async def in_slices(items: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """The items, with a turn for others whenever they have taken `slice_s` seconds in all."""
    until = time.perf_counter() + slice_s
    for item in items:
        yield item
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + slice_s
