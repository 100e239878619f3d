"""A Redis that lost its last writes is noticed by every consumer, before and after a batch."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.features.metrics import FeaturesMetrics
from services.features.stream.commits import RollbackWatch, StoreRolledBackError
from slipstream.contracts.positions import Source
from slipstream.stores.online import CheckpointMove

FIRST, SECOND = Source("interactions.v1", "t", 0), Source("interactions.v1", "t", 1)


class Redis:
    """An online store with a history that can be cut.

    `states` has, for each source, the records that took effect. Like a visitor's state, it takes a
    record only if it is newer than the last one.
    """

    def __init__(self) -> None:
        self.history: list[tuple[str, str, int]] = []

    def apply(self, source: str, offsets: Sequence[int]) -> None:
        for offset in offsets:
            if offset > max(self.states(source), default=-1):
                self.history.append(("record", source, offset))

    def states(self, source: str) -> list[int]:
        return [at for kind, name, at in self.history if kind == "record" and name == source]

    def checkpoints(self, sources: Sequence[str]) -> dict[str, int]:
        return {
            name: at for kind, name, at in self.history if kind == "checkpoint" and name in sources
        }

    def advance(self, moves: Mapping[str, CheckpointMove]) -> bool:
        held = self.checkpoints([*moves])
        if any(held.get(name, -1) < move.least for name, move in moves.items()):
            return False
        for name, move in moves.items():
            if held.get(name, -1) < move.reached:
                self.history.append(("checkpoint", name, move.reached))
        return True


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def measured() -> FeaturesMetrics:
    return FeaturesMetrics(CollectorRegistry())


@pytest.fixture
def watch(redis: Redis, measured: FeaturesMetrics) -> RollbackWatch:
    return RollbackWatch(redis, measured)


def test_what_this_consumer_had_applied_and_redis_lost_is_noticed(
    watch: RollbackWatch, redis: Redis, measured: FeaturesMetrics
) -> None:
    watch.verify({FIRST: 0})
    watch.advance({FIRST: 10})
    watch.advance({FIRST: 20})
    watch.verify({FIRST: 20})
    redis.history.pop()
    with pytest.raises(StoreRolledBackError, match=r"interactions\.v1:0 .* 10, .* 20"):
        watch.verify({SECOND: 5})
    for _ in range(2):
        assert watch.resume([FIRST, SECOND]) == {FIRST: 10}
        assert measured.rollbacks._value.get() == 1
    watch.verify({FIRST: 10})


def test_what_another_consumer_had_committed_and_redis_lost_is_noticed(
    watch: RollbackWatch, redis: Redis
) -> None:
    RollbackWatch(redis, FeaturesMetrics(CollectorRegistry())).advance({FIRST: 10})
    with pytest.raises(StoreRolledBackError):
        watch.verify({FIRST: 15})
    assert watch.resume([FIRST]) == {FIRST: 10}
    # A compacted topic may have no records from 10 to 15, so reading comes to the same offset.
    watch.verify({FIRST: 15})
    watch.advance({FIRST: 16})


def test_a_loss_amid_a_batch_is_noticed_behind_it(watch: RollbackWatch, redis: Redis) -> None:
    watch.advance({FIRST: 10})
    watch.verify({FIRST: 10})
    redis.history.clear()
    with pytest.raises(StoreRolledBackError):
        watch.advance({FIRST: 20})
    assert redis.history == []


def test_records_read_again_and_unknown_sources_are_no_loss(
    watch: RollbackWatch, redis: Redis
) -> None:
    watch.verify({FIRST: 500})  # read by a version without checkpoints
    watch.advance({FIRST: 510})
    watch.forget()
    watch.verify({FIRST: 480})
    watch.advance({FIRST: 490})
    assert redis.checkpoints([FIRST.name]) == {FIRST.name: 510}, "no checkpoint goes back"
    watch.verify({FIRST: 490})


def test_an_emptied_redis_is_noticed_once_and_reading_goes_on_from_the_commit(
    watch: RollbackWatch, redis: Redis
) -> None:
    watch.advance({FIRST: 10})
    redis.history.clear()
    with pytest.raises(StoreRolledBackError):
        watch.verify({FIRST: 10})
    assert watch.resume([FIRST]) == {}
    watch.verify({FIRST: 10})


class Reader:
    """A consumer as the materializer drives it: verify, apply, advance, commit; or read again."""

    def __init__(self, redis: Redis, committed: dict[Source, int]) -> None:
        self.redis, self.committed = redis, committed
        self.watch = RollbackWatch(redis, FeaturesMetrics(CollectorRegistry()))
        self.at: dict[Source, int] = {}

    def assign(self, sources: Sequence[Source]) -> None:
        self.watch.forget()
        self.at = {source: self.committed[source] for source in sources}

    def read(self, source: Source, count: int, end: int) -> None:
        start = self.at[source]
        stop = min(start + count, end)
        try:
            self.watch.verify({source: start})
            self.redis.apply(source.name, range(start, stop))
            self.watch.advance({source: stop})
        except StoreRolledBackError:
            sources = [*self.at]
            self.at = {each: self.committed[each] for each in sources}
            for each, offset in self.watch.resume(sources).items():
                self.at[each] = min(offset, self.at[each])
            return
        self.at[source] = stop

    def commit(self) -> None:
        self.committed.update(self.at)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.sampled_from([0, 1]), st.integers(1, 4)),
            st.tuples(st.just("commit"), st.sampled_from([0, 1]), st.just(0)),
            st.tuples(st.just("lose"), st.just(0), st.integers(1, 12)),
            st.tuples(st.just("swap"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_every_record_counts_once_whatever_redis_loses(steps: list[tuple[str, int, int]]) -> None:
    end = 12
    redis, committed = Redis(), {FIRST: 0, SECOND: 0}
    RollbackWatch(redis, FeaturesMetrics(CollectorRegistry())).advance({FIRST: 0, SECOND: 0})
    begun = len(redis.history)
    readers, sources = [Reader(redis, committed) for _ in range(2)], [FIRST, SECOND]
    for reader, source in zip(readers, sources, strict=True):
        reader.assign([source])
    for step, number, count in steps:
        reader = readers[number]
        if step == "read":
            reader.read(next(iter(reader.at)), count, end)
        elif step == "commit":
            reader.commit()
        elif step == "lose":
            del redis.history[max(begun, len(redis.history) - count) :]
        else:
            sources.reverse()
            for reader, source in zip(readers, sources, strict=True):
                reader.assign([source])
    for reader, source in zip(readers, sources, strict=True):
        for _ in range(100):
            reader.read(source, 3, end)
        assert redis.states(source.name) == [*range(end)]
