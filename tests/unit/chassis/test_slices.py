"""Long work gives others a turn, short work goes through in one go."""

import asyncio
from collections.abc import Iterable

from slipstream.chassis.slices import in_slices


async def turns_during(items: Iterable[int], slice_s: float) -> int:
    async def work() -> list[int]:
        return [item async for item in in_slices(items, slice_s)]

    task = asyncio.ensure_future(work())
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert task.result() == list(items)
    return turns


async def test_others_have_a_turn_after_each_slice() -> None:
    assert await turns_during(range(100), 0.0) > 50


async def test_short_work_is_not_divided() -> None:
    assert await turns_during(range(100), 60.0) <= 2
