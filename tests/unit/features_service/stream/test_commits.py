"""Commits wait until Redis has had the effects for long enough, and confirms that it keeps them."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.features.metrics import FeaturesMetrics
from services.features.stream.commits import PATIENCE_S, DurableCommits
from slipstream.contracts.positions import Source
from slipstream.stores.online import Durability, StoreUnavailableError

FIRST, SECOND = Source("interactions.v1", "t", 0), Source("interactions.v1", "t", 1)


class Redis:
    """An online store that answers as it is told; None: it is away."""

    def __init__(self) -> None:
        self.answer: Durability | None = Durability.SAFE
        self.asked: list[Mapping[str, int]] = []

    def durability(self, offsets: Mapping[str, int]) -> Durability:
        self.asked.append(dict(offsets))
        if self.answer is None:
            raise StoreUnavailableError("Redis is away")
        return self.answer


class Asking(Executor):
    """Runs questions at once, or keeps them while `held`."""

    def __init__(self) -> None:
        self.held = False
        self.kept: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.kept.append((Future(), lambda: fn(*args, **kwargs)))
        future = self.kept[-1][0]
        if not self.held:
            self.run()
        return future

    def run(self) -> None:
        for future, question in self.kept:
            try:
                future.set_result(question())
            except StoreUnavailableError as error:
                future.set_exception(error)
        self.kept.clear()


class Consumer:
    """A consumer that notes its commits."""

    def __init__(self) -> None:
        self.committed: list[Mapping[Source, int]] = []

    def commit(self, next_offsets: Mapping[Source, int]) -> bool:
        self.committed.append(dict(next_offsets))
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.fixture
def measured() -> FeaturesMetrics:
    return FeaturesMetrics(CollectorRegistry())


@pytest.fixture
def commits(
    redis: Redis, clock: Clock, asking: Asking, measured: FeaturesMetrics
) -> DurableCommits:
    return DurableCommits(redis, 2.0, asking, measured, clock=clock)


def test_offsets_are_committed_together_once_each_has_waited(
    commits: DurableCommits, consumer: Consumer, clock: Clock
) -> None:
    commits.add({FIRST: 10})
    clock.now += 1.0
    commits.add({FIRST: 20, SECOND: 5})
    assert commits.commit_due(consumer) and consumer.committed == []
    clock.now += 1.0
    assert commits.commit_due(consumer) and consumer.committed == [{FIRST: 10}]
    commits.add({SECOND: 9})
    clock.now += 2.0
    assert commits.commit_due(consumer)
    assert consumer.committed[1:] == [{FIRST: 20, SECOND: 9}]
    assert commits.commit_due(consumer) and len(consumer.committed) == 2


def test_at_the_end_all_is_committed_at_once(commits: DurableCommits, consumer: Consumer) -> None:
    commits.add({FIRST: 10})
    commits.add({FIRST: 20})
    assert commits.commit_all(consumer)
    assert consumer.committed == [{FIRST: 20}]


@pytest.mark.parametrize("answer", [Durability.LOST, None])
def test_nothing_is_committed_when_redis_has_lost_writes_or_is_away(
    commits: DurableCommits, consumer: Consumer, redis: Redis, clock: Clock, answer: Durability
) -> None:
    commits.add({FIRST: 10})
    redis.answer = answer
    assert commits.commit_due(consumer) and redis.asked == [], "asked only when something is due"
    clock.now += 2.0
    assert not commits.commit_due(consumer)
    assert redis.asked == [{"t:0": 10}] and consumer.committed == []


def test_nobody_waits_for_the_answer_and_what_becomes_due_meanwhile_is_asked_about_next(
    commits: DurableCommits, consumer: Consumer, redis: Redis, clock: Clock, asking: Asking
) -> None:
    asking.held = True
    commits.add({FIRST: 10})
    clock.now += 2.0
    assert commits.commit_due(consumer)
    commits.add({FIRST: 20, SECOND: 5})
    clock.now += 2.0
    assert commits.commit_due(consumer) and consumer.committed == []
    asking.run()
    assert commits.commit_due(consumer) and consumer.committed == [{FIRST: 10}]
    assert commits.commit_due(consumer)
    asking.run()
    assert commits.commit_due(consumer) and consumer.committed[1:] == [{FIRST: 20, SECOND: 5}]
    assert redis.asked == [{"t:0": 10}, {"t:0": 20, "t:1": 5}]


def test_without_a_confirmation_the_commit_waits_and_then_goes_by_time(
    commits: DurableCommits,
    consumer: Consumer,
    redis: Redis,
    clock: Clock,
    measured: FeaturesMetrics,
) -> None:
    redis.answer = Durability.PENDING
    commits.add({FIRST: 10})
    clock.now += 2.0
    assert commits.commit_due(consumer) and commits.commit_due(consumer)
    assert consumer.committed == []
    clock.now += PATIENCE_S
    assert commits.commit_due(consumer) and consumer.committed == [{FIRST: 10}]
    assert measured.unconfirmed_commits._value.get() == 1


@pytest.mark.parametrize(
    ("answer", "committed"), [(Durability.SAFE, [{FIRST: 20}]), (Durability.PENDING, [])]
)
def test_at_the_end_a_question_under_way_is_asked_anew_with_the_rest(
    commits: DurableCommits,
    consumer: Consumer,
    redis: Redis,
    clock: Clock,
    asking: Asking,
    answer: Durability,
    committed: list[Mapping[Source, int]],
) -> None:
    asking.held = True
    commits.add({FIRST: 10})
    clock.now += 2.0
    assert commits.commit_due(consumer)
    commits.add({FIRST: 20})
    asking.held, redis.answer = False, answer
    assert commits.commit_all(consumer)
    assert consumer.committed == committed


def test_what_is_cleared_is_not_committed(
    commits: DurableCommits, consumer: Consumer, clock: Clock
) -> None:
    commits.add({FIRST: 10})
    commits.clear()
    clock.now += 9.0
    assert commits.commit_due(consumer) and consumer.committed == []
