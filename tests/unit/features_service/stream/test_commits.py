"""Commits wait until Redis has had the effects for long enough, and is still the same."""

from collections.abc import Mapping

import pytest

from services.features.stream.commits import DurableCommits
from slipstream.contracts.positions import Source
from slipstream.stores.online import StoreUnavailableError

FIRST, SECOND = Source("interactions.v1", "t", 0), Source("interactions.v1", "t", 1)


class Redis:
    """An online store that says whether its Redis has restarted, or is away."""

    has_restarted = False
    is_away = False

    def restarted(self) -> bool:
        if self.is_away:
            raise StoreUnavailableError("Redis is away")
        return self.has_restarted


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
def commits(redis: Redis, clock: Clock) -> DurableCommits:
    return DurableCommits(redis, 2.0, clock=clock)


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


@pytest.mark.parametrize("trouble", ["has_restarted", "is_away"])
def test_nothing_is_committed_when_redis_may_have_lost_its_last_writes(
    commits: DurableCommits, consumer: Consumer, redis: Redis, clock: Clock, trouble: str
) -> None:
    commits.add({FIRST: 10})
    setattr(redis, trouble, True)
    assert commits.commit_due(consumer), "Redis is asked only when something is due"
    clock.now += 2.0
    assert not commits.commit_due(consumer)
    assert consumer.committed == []


def test_what_is_cleared_is_not_committed(
    commits: DurableCommits, consumer: Consumer, clock: Clock
) -> None:
    commits.add({FIRST: 10})
    commits.clear()
    clock.now += 9.0
    assert commits.commit_due(consumer) and consumer.committed == []
