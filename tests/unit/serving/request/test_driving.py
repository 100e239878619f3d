"""Calls of the kernels that requests share: who shares one, where it runs, and who is told what."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest

from services.serving.request import driving
from services.serving.request.driving import MOST_LISTS, GatheredLists
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, Recommendation
from tests.unit.serving.fakes import ITEMS, history, small_bundle

Answers = Callable[[Bundle, Sequence[ListQuestion]], list[list[Recommendation]]]


@pytest.fixture
async def lists() -> AsyncIterator[GatheredLists]:
    gathered = GatheredLists()
    yield gathered
    gathered.close()


class Calls:
    """The calls that were made: how many lists each, and in which thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[], None]) -> None:
        self.sizes: list[int] = []
        self.threads: list[threading.Thread] = []
        self._before, self._answers = before, stages.answers
        monkeypatch.setattr(driving.stages, "answers", self._answer)

    def _answer(
        self, bundle: Bundle, questions: Sequence[ListQuestion]
    ) -> list[list[Recommendation]]:
        self.sizes.append(len(questions))
        self.threads.append(threading.current_thread())
        self._before()
        return self._answers(bundle, questions)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch, lambda: None)


def question(bundle: Bundle, place: int, n: int = 5) -> ListQuestion:
    return stages.list_question(bundle, history(ITEMS[place], ITEMS[place + 1]), n)


async def test_a_request_that_is_alone_is_answered_in_the_event_loop(
    lists: GatheredLists, bundle: Bundle, calls: Calls
) -> None:
    answer = await lists.recommend(bundle, question(bundle, 3))
    assert [*answer] == [*stages.answers(bundle, [question(bundle, 3)])[0]]
    assert calls.sizes[0] == 1 and calls.threads[0] is threading.current_thread()


async def test_requests_of_one_turn_share_a_call_in_a_thread_and_get_what_they_get_alone(
    lists: GatheredLists, bundle: Bundle, calls: Calls
) -> None:
    questions = [question(bundle, place) for place in range(MOST_LISTS + 2)]
    given = await asyncio.gather(*(lists.recommend(bundle, each) for each in questions))
    assert calls.sizes == [MOST_LISTS, 2]
    assert threading.current_thread() not in calls.threads
    assert list(map(list, given)) == [list(stages.answers(bundle, [each])[0]) for each in questions]


async def test_requests_that_come_during_a_call_share_the_next_one(
    lists: GatheredLists, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(30)

    calls = Calls(monkeypatch, hold)
    first = [lists.recommend(bundle, question(bundle, n)) for n in range(2)]
    assert await asyncio.to_thread(begun.wait, 30)
    later = [lists.recommend(bundle, question(bundle, n)) for n in range(5)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in [*first, *later])
    go_on.set()
    await asyncio.gather(*first, *later)
    assert calls.sizes == [2, 5]


async def test_only_requests_for_the_same_list_share_a_call(
    lists: GatheredLists, bundle: Bundle, calls: Calls
) -> None:
    mask = np.ones(len(bundle.item_ids), np.bool_)
    asked = [
        (bundle, question(bundle, 1)),
        (bundle, question(bundle, 2)),
        (bundle, question(bundle, 3, n=6)),
        (bundle, stages.list_question(bundle, history(ITEMS[4]), 6, allowed=mask)),
        (other := small_bundle("2"), question(other, 5, n=6)),
    ]
    given = await asyncio.gather(*(lists.recommend(*each) for each in asked))
    assert calls.sizes[:4] == [2, 1, 1, 1]
    assert list(map(list, given)) == [list(stages.answers(each, [one])[0]) for each, one in asked]


async def test_a_failure_reaches_all_who_share_the_call_and_nobody_else(
    lists: GatheredLists, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        if len(calls.sizes) == 1:
            raise RuntimeError("the kernel failed")

    calls = Calls(monkeypatch, fail)
    asked = [question(bundle, 1), question(bundle, 2), question(bundle, 3, n=6)]
    first, second, third = await asyncio.gather(
        *(lists.recommend(bundle, each) for each in asked), return_exceptions=True
    )
    assert str(first) == str(second) == "the kernel failed"
    assert list(third) == list(stages.answers(bundle, [asked[2]])[0])


async def test_nothing_is_computed_for_those_who_left(
    lists: GatheredLists, bundle: Bundle, calls: Calls
) -> None:
    tasks = [lists.recommend(bundle, question(bundle, n)) for n in range(3)]
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].result() and calls.sizes == [1]
    assert await lists.recommend(bundle, question(bundle, 7))
