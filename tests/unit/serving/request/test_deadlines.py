"""Whose time counts: the silence of a server does, the event loop's own delay does not."""

import asyncio
import socket
import time

import pytest

from services.serving.request.store_reads import TICKS, Budget, HearingClock

BUDGET_S = 0.1


async def _answer_over_a_socket(turns: int, answered_in: int) -> bytes:
    """What is read from a peer, within the budget, while the loop is busy for so many turns.

    Every turn takes half of the budget. The peer answers in one of them.
    """
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    loop = asyncio.get_running_loop()

    def work(turn: int) -> None:
        if turn == answered_in:
            theirs.send(b"x")
        time.sleep(BUDGET_S / 2)
        if turn + 1 < turns:
            loop.call_soon(work, turn + 1)

    loop.call_soon(work, 0)
    try:
        clock = HearingClock(BUDGET_S / TICKS)
        return await clock.wait(reader.readexactly(1), Budget(BUDGET_S))
    finally:
        writer.close()
        theirs.close()


@pytest.mark.parametrize("answered_in", [0, 1, 3])
async def test_answer_that_a_busy_loop_hears_late_counts(answered_in: int) -> None:
    assert await _answer_over_a_socket(5, answered_in) == b"x"


async def test_silence_ends_the_wait_and_spends_the_budget() -> None:
    clock, budget = HearingClock(0.001), Budget(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(clock.wait(asyncio.Event().wait(), budget), 60)
    assert budget.left_s < 0.001


async def test_budget_is_for_all_waits_together() -> None:
    clock, budget = HearingClock(0.001), Budget(0.02)
    answer = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(clock.wait(answer, budget))
    await asyncio.sleep(0)  # it waits now, and its clock ticks before the sleep below has ended
    await asyncio.sleep(0.01)
    answer.set_result("first")
    assert await first == "first"
    assert budget.left_s < 0.02
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(clock.wait(asyncio.Event().wait(), budget), 60)
    assert budget.left_s < 0.001
