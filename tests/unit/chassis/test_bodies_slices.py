"""Long work gives others a turn, short work goes through in one go."""

import asyncio
from collections.abc import Iterable

import pytest

from slipstream.chassis.bodies import LargeRequests, in_slices


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


async def test_a_small_request_waits_for_no_large_one_and_large_ones_for_one_another() -> None:
    requests, ended = LargeRequests(), list[str]()

    async def work(name: str, large: bool) -> None:
        async with requests.turn(large):
            for _ in range(3):
                await asyncio.sleep(0)
        ended.append(name)

    await asyncio.gather(work("first", True), work("second", True), work("small", False))
    assert ended == ["first", "small", "second"]


async def test_a_large_request_that_fails_lets_the_next_one_in() -> None:
    requests = LargeRequests()
    with pytest.raises(ValueError):
        async with requests.turn(True):
            raise ValueError
    async with requests.turn(True):
        pass
