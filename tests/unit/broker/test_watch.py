"""Symptoms of consumers that do not read, and the health of those that do."""

import pytest

from slipstream.broker.consumer_client import Membership
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.log_changes import FaultKind, LogFault
from slipstream.broker.watch import ConsumerStalledError, ConsumerWatch, SymptomKind
from slipstream.chassis.metrics import Metrics
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer


class Scene:
    """A watched consumer and a clock. `look` lets five seconds pass with two polls."""

    def __init__(self) -> None:
        self.now = 100.0
        self.metrics = Metrics("test")
        self.watch = ConsumerWatch(self.metrics, patience_s=30.0, clock=lambda: self.now)
        self.consumer = self.renew()

    def renew(self) -> ScriptedConsumer:
        self.consumer = ScriptedConsumer()
        self.watch.begin(self.consumer)  # type: ignore[arg-type]
        return self.consumer

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 5.0
            self.consumer.polls += 2
            self.watch.update()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"slipstream_{name}", labels)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_lag_is_asked_for_every_few_seconds_and_stays_where_there_is_no_answer(
    scene: Scene,
) -> None:
    values = []
    for now, end in ((100.0, 5), (104.9, 6), (105.0, 7), (106.0, 8), (110.1, None), (115.2, 0)):
        scene.now, scene.consumer.answers = now, end is not None
        scene.consumer.end = end or 0
        scene.watch.update()
        values.append(scene.sample("consumer_lag_records", topic=SOURCE.topic))
    assert values == [5, 5, 7, 7, 7, 0]
    assert scene.watch.lag == 0


def test_a_reader_that_never_learns_where_to_begin_is_given_up(scene: Scene) -> None:
    scene.consumer.answers = False
    scene.look()
    with pytest.raises(BrokerUnavailableError, match="where reading begins"):
        scene.look()


def test_a_member_that_has_no_answer_during_a_rebalance_is_not_given_up(scene: Scene) -> None:
    scene.consumer.answers = False
    scene.consumer.membership = Membership(joined=False, silent_s=0.0)
    scene.look(3)
    scene.consumer.membership = Membership(joined=True, silent_s=0.0)
    scene.look()
    scene.consumer.answers = True
    scene.look()


async def test_a_consumer_that_reads_is_well_however_far_it_is_behind(scene: Scene) -> None:
    for _ in range(20):
        scene.consumer.position += 10
        scene.consumer.end += 1_000
        scene.look()
        await scene.watch.check()


@pytest.mark.parametrize(
    ("symptom", "words"),
    [
        ("outside", "not in its group"),
        ("silent", "no heartbeat"),
        ("unassigned", "no partition"),
        ("stuck", "have grown"),
    ],
)
async def test_a_consumer_that_does_not_read_is_unready_says_why_and_is_made_anew(
    scene: Scene, symptom: str, words: str
) -> None:
    scene.look()
    await scene.watch.check()
    for _ in range(7):
        match symptom:
            case "outside":
                scene.consumer.membership = Membership(joined=False, silent_s=0.0)
            case "silent":
                scene.consumer.membership = Membership(joined=True, silent_s=31.0)
            case "unassigned":
                scene.consumer.assigned = scene.consumer.taken = False
            case "stuck":
                scene.consumer.end += 1
        await scene.watch.check()
        scene.look()
    with pytest.raises(ConsumerStalledError, match=words):
        scene.look()
    with pytest.raises(RuntimeError, match=words):
        await scene.watch.check()
    assert scene.sample("consumer_stalls_total", symptom=symptom) == 1

    scene.renew()
    with pytest.raises(RuntimeError, match=words):
        await scene.watch.check()
    scene.look()
    await scene.watch.check()


async def test_every_new_consumer_gets_the_time_of_patience(scene: Scene) -> None:
    for _ in range(3):
        scene.renew().membership = Membership(joined=False, silent_s=0.0)
        scene.look(6)
        with pytest.raises(ConsumerStalledError):
            scene.look(2)
    assert scene.sample("consumer_stalls_total", symptom="outside") == 3


async def test_a_member_beyond_the_number_of_partitions_is_well_and_seldom_asks(
    scene: Scene,
) -> None:
    scene.consumer.assigned = False
    scene.look(20)
    await scene.watch.check()
    assert scene.consumer.questions <= 5


async def test_a_reader_that_does_not_poll_on_purpose_is_not_made_anew(scene: Scene) -> None:
    for _ in range(20):
        scene.consumer.end += 100
        scene.now += 5.0
        scene.watch.update()
    await scene.watch.check()


async def test_a_topic_whose_end_stays_unreached_without_growing_is_no_symptom(
    scene: Scene,
) -> None:
    scene.consumer.end = 7
    scene.look(20)
    await scene.watch.check()


async def test_a_loop_that_hangs_is_unready(scene: Scene) -> None:
    scene.look()
    scene.now += 31.0
    with pytest.raises(RuntimeError, match="no records were requested in 31 s"):
        await scene.watch.check()


def test_each_stall_that_is_counted_had_a_series_before(scene: Scene) -> None:
    kinds = [scene.sample("consumer_stalls_total", symptom=kind) for kind in SymptomKind]
    assert kinds == [0, 0, 0, 0]


async def test_a_reader_without_a_group_is_watched_likewise(scene: Scene) -> None:
    scene.consumer.membership = None
    scene.look(3)
    with pytest.raises(ConsumerStalledError, match="have grown"):
        for _ in range(10):
            scene.consumer.end += 1
            scene.look()


def test_records_that_are_gone_are_counted_for_the_alarm(scene: Scene) -> None:
    scene.look()
    topic = {"topic": SOURCE.topic}
    # From nothing to something an alarm sees no increase, so the series begin at 0.
    assert scene.sample("unread_records_deleted_total", **topic) == 0
    assert scene.sample("log_truncations_total", **topic) == 0
    assert scene.sample("malformed_records_total", **topic) == 0
    scene.consumer.found = [
        LogFault(SOURCE.topic, 0, FaultKind.DELETED, 25),
        LogFault(SOURCE.topic, 1, FaultKind.TRUNCATED),
    ]
    scene.look(2)
    assert scene.sample("unread_records_deleted_total", **topic) == 25
    assert scene.sample("log_truncations_total", **topic) == 1
