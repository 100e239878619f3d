"""Merges count every event once, whatever the order, and wherever a writer is stopped."""

import itertools
import random
import threading
import uuid
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.online import OnlineStore
from tests.integration.crashing import StoppedError, interrupted_store
from tests.integration.merge_stories import (
    PEOPLE,
    STORY,
    Step,
    apply,
    assert_each_once,
    link,
    view,
)


@pytest.mark.parametrize("batch", [1, 3, len(STORY)])
def test_a_writer_stopped_after_any_write_goes_on_when_it_reads_again(
    redis_settings: RedisSettings, batch: int
) -> None:
    batches = [STORY[start : start + batch] for start in range(0, len(STORY), batch)]
    for writes in itertools.count():
        namespace = f"t-{uuid.uuid4().hex[:12]}"
        stopped = interrupted_store(redis_settings, namespace, writes)
        done = 0
        try:
            for steps in batches:
                apply(stopped, steps)
                done += 1
        except StoppedError:
            pass
        finally:
            stopped.close()
        store = OnlineStore(redis_settings, namespace)
        for steps in batches[max(0, done - 1) :]:
            apply(store, steps)
        assert_each_once(store, STORY)
        store.close()
        if done == len(batches):
            break
    assert writes > 20


@dataclass
class Log:
    """Records by source, since each source is read from a position of its own."""

    steps: list[Step]
    sources: dict[str, list[Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            self.sources.setdefault(step.source, []).append(step)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Random views and links."""
    steps: list[Step] = []
    for number in range(draw(st.integers(3, 25))):
        name = draw(st.sampled_from(PEOPLE))
        if draw(st.integers(0, 2)):
            steps.append(view(name, number))
        else:
            steps.append(link(name, draw(st.sampled_from(PEOPLE)), number))
    return Log(steps)


@given(log=logs(), seed=st.integers(0, 2**32))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_the_order_and_wherever_it_stops_the_end_is_the_fold_of_all(
    redis_settings: RedisSettings, log: Log, seed: int
) -> None:
    chance, namespace = random.Random(seed), f"t-{uuid.uuid4().hex[:12]}"
    committed = dict.fromkeys(log.sources, 0)
    while any(committed[source] < len(steps) for source, steps in log.sources.items()):
        writer = interrupted_store(redis_settings, namespace, chance.choice([1, 2, 3, 5, 8, 1_000]))
        reading = dict(committed)
        try:
            for _ in range(chance.randrange(1, 8)):
                batch: list[Step] = []
                for source in chance.sample(
                    sorted(log.sources), chance.randrange(1, len(log.sources) + 1)
                ):
                    until = reading[source] + chance.randrange(4)
                    batch += log.sources[source][reading[source] : until]
                    reading[source] = min(until, len(log.sources[source]))
                apply(writer, batch)
                if chance.random() < 0.5:
                    committed = dict(reading)
        except StoppedError:
            pass
        finally:
            writer.close()
    store = OnlineStore(redis_settings, namespace)
    if chance.random() < 0.3:
        apply(store, log.steps)  # the whole topic again
    assert_each_once(store, log.steps)
    store.close()


def test_writers_at_once_merge_and_fold_each_record_once(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    """Each source belongs to one writer, and for a while to its neighbour, too."""
    chance = random.Random(5)
    steps: list[Step] = [
        view(chance.choice(PEOPLE), n) if n % 5 else link(*chance.sample(PEOPLE, 2), n)
        for n in range(400)
    ]
    sources = Log(steps).sources
    failures: list[BaseException] = []

    def write(mine: list[str]) -> None:
        writer = OnlineStore(redis_settings, namespace)
        try:
            for source in mine:
                for start in range(0, len(sources[source]), 7):
                    apply(writer, sources[source][start : start + 7])
        except BaseException as error:
            failures.append(error)
        finally:
            writer.close()

    names = sorted(sources)
    threads = [
        threading.Thread(target=write, args=([names[n], names[(n + 1) % len(names)]],))
        for n in range(len(names))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert_each_once(store, steps)


def neighbours(store: OnlineStore) -> dict[str, dict[str, int]]:
    """Each item's neighbours, with masses rounded: sums of floats depend on their order."""
    ids = [f"i{n}" for n in range(7)]
    return {
        item_id: {other: round(mass / 100) for other, mass in state.neighbours.items()}
        for item_id, state in zip(ids, store.items(ids), strict=True)
        if state is not None
    }


@pytest.mark.parametrize("again", [1, 3, 12])
def test_pairs_count_once_for_both_items_wherever_a_writer_is_stopped(
    redis_settings: RedisSettings, store: OnlineStore, again: int
) -> None:
    steps = [view(PEOPLE[number % 2], number, "t:0") for number in range(12)]
    for start in range(0, 12, 4):
        store.apply(steps[start : start + 4])
    due = neighbours(store)
    assert due["i0"] and due["i6"]
    for writes in itertools.count():
        namespace = f"t-{uuid.uuid4().hex[:12]}"
        stopped, done = interrupted_store(redis_settings, namespace, writes), 0
        try:
            for done in range(0, 12, 4):
                stopped.apply(steps[done : done + 4])
            finished = True
        except StoppedError:
            finished = False
        stopped.close()
        after = OnlineStore(redis_settings, namespace)
        for start in range(max(0, done - 4), 12, again):  # other batches than before
            after.apply(steps[start : start + again])
        assert neighbours(after) == due
        after.close()
        if finished:
            break
    assert writes > 20
