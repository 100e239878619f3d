"""Commits wait until Redis has had the effects for long enough, and confirms that it keeps them."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.features.metrics import FeaturesMetrics
from services.features.stream.commits import PATIENCE_S, DurableCommits, LogLineages
from slipstream.broker.log_changes import EpochSpan
from slipstream.broker.records import Batch, MalformedMessage, Message
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import Source
from slipstream.stores.checkpoints import Lineage, Span
from slipstream.stores.online import Durability, StoreUnavailableError

FIRST, SECOND = Source("interactions.v1", "t", 0), Source("interactions.v1", "t", 1)


class Redis:
    """An online store with prepared answers; None: it is unavailable."""

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


AT, OTHER = Source("interactions.v1", "id", 0), Source("interactions.v1", "id", 1)


class Store:
    """Answers with one lineage for `AT`."""

    def __init__(self, *parted: int, found: int = 0) -> None:
        self.lineage = Lineage(parted, found)
        self.asked: list[Any] = []

    def follow(self, spans: Mapping[str, Sequence[Span]]) -> dict[str, Lineage]:
        self.asked.append(spans)
        return {name: self.lineage if name == AT.name else Lineage((), 0) for name in spans}


class Commits:
    """Stands at positions, and notes what is committed."""

    def __init__(self, positions: Mapping[Source, int] | None = None) -> None:
        self.made: list[Mapping[Source, int]] = []
        self._positions = positions or {}

    def positions(self) -> dict[Source, int]:
        return dict(self._positions)

    def commit(self, offsets: Mapping[Source, int]) -> bool:
        self.made.append(offsets)
        return True


def batch_of(*spans: tuple[int, int, int]) -> Batch:
    """A batch of `AT` with these spans, whose last record is malformed, and two of another."""
    theirs = [EpochSpan(*span) for span in spans]
    offsets = [at for span in theirs for at in range(span.first, span.last + 1)]
    return Batch(
        messages=[Message(AT, at, "k", None, "") for at in offsets[:-1]]
        + [Message(OTHER, at, "k", None, "") for at in (70, 71)],
        malformed=[MalformedMessage(AT, offsets[-1], b"", "bad", "")],
        next_offsets={AT: offsets[-1] + 1, OTHER: 72},
        first_offsets={AT: offsets[0], OTHER: 70},
        spans={AT: theirs, OTHER: [EpochSpan(1, 70, 71)]},
    )


def named(store: Store, batch: Batch) -> tuple[Batch, Commits, Metrics]:
    commits, metrics = Commits(), Metrics("test")
    return LogLineages(store, metrics).named(batch, commits), commits, metrics  # type: ignore[arg-type]


def test_a_log_that_never_parted_keeps_its_name() -> None:
    batch = batch_of((1, 10, 12), (3, 13, 15))
    result, commits, _ = named(Store(), batch)
    assert result is batch and not commits.made


def test_an_epoch_that_the_broker_does_not_tell_is_not_asked_about() -> None:
    store, batch = Store(5), batch_of((-1, 10, 12))
    named(store, batch)
    assert [*store.asked[0]] == [OTHER.name]


def test_names_change_with_the_epochs_at_which_the_log_parted() -> None:
    store = Store(3, 9, found=1)
    result, commits, metrics = named(
        store, batch_of((1, 8, 9), (3, 10, 11), (4, 12, 12), (9, 13, 14))
    )
    third, ninth = AT.since(3), AT.since(9)
    names = {m.offset: m.source for m in (*result.messages, *result.malformed)}
    assert names == {
        70: OTHER, 71: OTHER, 8: AT, 9: AT, 10: third, 11: third, 12: third, 13: ninth, 14: ninth,
    }  # fmt: skip
    assert result.first_offsets == {OTHER: 70, AT: 8, third: 10, ninth: 13}
    assert result.next_offsets == {OTHER: 72, AT: 10, third: 13, ninth: 15}
    assert commits.made == [{ninth: 13}], "no offset of a lost record is to be committed any more"
    topic = {"topic": AT.topic}
    assert metrics.registry.get_sample_value("slipstream_log_truncations_total", topic) == 1


def test_a_log_that_parted_long_ago_has_its_name_and_is_not_told_again() -> None:
    result, commits, _ = named(Store(3), batch_of((4, 20, 22)))
    assert {m.source for m in result.malformed} == {AT.since(3)}
    assert not commits.made


def test_positions_have_the_newest_name_also_before_anything_was_read() -> None:
    store = Store(3, 9)
    lineages = LogLineages(store, Metrics("test"))  # type: ignore[arg-type]
    reader = Commits({AT: 50, OTHER: 6})
    for _ in range(2):
        assert lineages.positions(reader) == {AT.since(9): 50, OTHER: 6}  # type: ignore[arg-type]
    assert store.asked == [{AT.name: (), OTHER.name: ()}, {}]
    lineages.forget()
    store.lineage = Lineage((3, 9, 12), 0)
    assert lineages.positions(reader) == {AT.since(12): 50, OTHER: 6}  # type: ignore[arg-type]
