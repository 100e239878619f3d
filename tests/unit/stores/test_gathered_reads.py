import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.stores import gathered_reads
from slipstream.stores.gathered_reads import GatheredReads, Values


class Store:
    """A server that answers a command when it is let; each value is its key's bytes."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failure: BaseException | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    async def read(self, keys: list[str]) -> Values:
        self.commands.append(keys)
        self.asked.set()
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return [key.encode() or None for key in keys]


async def test_callers_of_one_turn_share_a_command_and_each_gets_its_own_in_order() -> None:
    store = Store()
    reads = GatheredReads(store.read)
    answers = await asyncio.gather(
        reads.values(["a"]), reads.values(["b", ""]), reads.values([]), reads.values(["a"])
    )
    assert answers == [[b"a"], [b"b", None], [], [b"a"]]
    assert store.commands == [["a", "b", "", "a"]]


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=12), st.integers(1, 6))
async def test_whoever_asks_gets_the_values_of_its_keys(
    callers: list[list[str]], most: int
) -> None:
    store = Store()
    reads = GatheredReads(store.read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered_reads, "MOST_KEYS", most)
        answers = await asyncio.gather(*map(reads.values, callers))
    assert answers == [[key.encode() or None for key in keys] for keys in callers]
    longest = max((len(keys) for keys in callers), default=0)
    assert all(len(command) <= max(most, longest) for command in store.commands)


async def test_a_lone_caller_is_sent_in_the_turn_in_which_it_asks() -> None:
    store = Store()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while not store.asked.is_set():
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await GatheredReads(store.read).values(["a"])
    await counting
    assert turns <= 3, "it waits for no timer"


async def test_a_command_under_way_does_not_hold_up_the_next() -> None:
    store = Store()
    store.answers.clear()
    reads = GatheredReads(store.read)
    first = asyncio.create_task(reads.values(["a"]))
    await store.asked.wait()
    store.asked.clear()
    second = asyncio.create_task(reads.values(["b"]))
    await store.asked.wait()
    store.answers.set()
    assert await asyncio.gather(first, second) == [[b"a"], [b"b"]]
    assert store.commands == [["a"], ["b"]]


async def test_a_failure_reaches_all_that_wait_and_the_next_command_is_tried() -> None:
    store = Store()
    store.failure = ConnectionError("away")
    reads = GatheredReads(store.read)
    failed = await asyncio.gather(reads.values(["a"]), reads.values(["b"]), return_exceptions=True)
    assert [str(error) for error in failed] == ["away", "away"]
    store.failure = None
    assert await reads.values(["a"]) == [b"a"]


@pytest.mark.parametrize("leaves", ["before it is sent", "while it is read"])
async def test_a_caller_that_leaves_takes_nothing_from_the_others(leaves: str) -> None:
    store = Store()
    store.answers.clear()
    reads = GatheredReads(store.read)
    callers = [asyncio.create_task(reads.values([key])) for key in ("a", "b", "c")]
    if leaves == "while it is read":
        await store.asked.wait()
    else:
        await asyncio.sleep(0)
    callers[1].cancel()
    store.answers.set()
    first, left, last = await asyncio.gather(*callers, return_exceptions=True)
    assert (first, last) == ([b"a"], [b"c"])
    assert isinstance(left, asyncio.CancelledError)


async def test_callers_end_when_the_reading_is_cancelled() -> None:
    store = Store()
    store.failure = asyncio.CancelledError()
    answers: Sequence[object] = await asyncio.gather(
        GatheredReads(store.read).values(["a"]), return_exceptions=True
    )
    assert isinstance(answers[0], asyncio.CancelledError)
