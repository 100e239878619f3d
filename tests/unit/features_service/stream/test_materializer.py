"""Reading waits until the store that is away answers, or the service stops."""

import threading

import pytest
from prometheus_client import CollectorRegistry

from services.features.metrics import FeaturesMetrics
from services.features.stream import materializer
from services.features.stream.commits import StoreRolledBackError
from services.features.stream.materializer import (
    StoreOutages,
    StreamProgress,
    StreamProgressReporter,
)
from slipstream.stores.lake import LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError


class Stores:
    """A Redis and a lake that refuse as often as `refusals` says; and a watch that counts looks."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.looks = refusals, 0

    def update(self) -> None:
        self.looks += 1

    def ping(self) -> None:
        self._refuse(StoreUnavailableError("Redis is away"))

    def version(self, table: str) -> int:
        self._refuse(LakeUnavailableError(f"{table} is away"))
        return 1

    def _refuse(self, error: Exception) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise error


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materializer, "_ASK_EVERY_S", 0.001)


def test_redis_is_waited_for_and_stays_noted_until_a_write_succeeds() -> None:
    stores = Stores(refusals=3)
    waiting = StoreOutages(stores, stores, stores)
    assert waiting.wait(StoreUnavailableError("full"), threading.Event())
    assert (waiting.redis, waiting.lake, stores.looks) == ("full", None, 4)


def test_the_lake_is_waited_for() -> None:
    stores = Stores(refusals=1)
    waiting = StoreOutages(stores, stores, stores)
    assert waiting.wait(LakeUnavailableError("gone"), threading.Event())
    assert (waiting.redis, waiting.lake, stores.looks) == (None, "gone", 2)


def test_a_redis_that_has_lost_writes_is_not_waited_for() -> None:
    stores = Stores(refusals=10**9)
    waiting = StoreOutages(stores, stores, stores)
    assert waiting.wait(StoreRolledBackError("lost"), threading.Event())
    assert (waiting.redis, stores.looks) == (None, 0)


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stores = Stores(refusals=10**9)
    threading.Timer(0.05, stop.set).start()
    assert not StoreOutages(stores, stores, stores).wait(StoreUnavailableError("away"), stop)


class Surroundings:
    """A watch, an archive and a consumer with the figures that a test gives them."""

    lag = 40
    empty = True
    left: int | None = 0

    def remaining(self) -> int | None:
        return self.left


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def reporter(around: Surroundings, registry: CollectorRegistry) -> StreamProgressReporter:
    return StreamProgressReporter(around, around, FeaturesMetrics(registry))


def answered(reporter: StreamProgressReporter, around: Surroundings) -> StreamProgress:
    """The answer to a question that another thread asks while this one polls."""
    answers: list[StreamProgress] = []
    asking = threading.Thread(target=lambda: answers.append(reporter.ask(30.0)))
    asking.start()
    while asking.is_alive():
        reporter.answer(around)
        asking.join(0.005)
    return answers[0]


def test_caught_up_is_all_read_and_all_in_the_lake(
    reporter: StreamProgressReporter, around: Surroundings
) -> None:
    reporter.advance(3, 700)
    assert answered(reporter, around) == StreamProgress(3, 0, 700, True)
    around.left = 5
    assert answered(reporter, around) == StreamProgress(3, 5, 700, False)
    around.left, around.empty = 0, False
    assert answered(reporter, around) == StreamProgress(3, 0, 700, False)


def test_without_the_brokers_word_the_lag_is_the_last_that_the_watch_saw(
    reporter: StreamProgressReporter, around: Surroundings
) -> None:
    around.left = None
    assert answered(reporter, around) == StreamProgress(0, 40, 0, False)


def test_without_an_answer_in_time_nothing_is_called_caught_up(
    reporter: StreamProgressReporter, around: Surroundings
) -> None:
    reporter.advance(2, 10)
    assert answered(reporter, around).caught_up
    assert reporter.ask(0.0) == StreamProgress(2, 0, 10, False)


def test_the_watermark_never_goes_back(
    reporter: StreamProgressReporter, registry: CollectorRegistry
) -> None:
    reporter.advance(1, 9_000)
    reporter.advance(1, 4_000)
    assert reporter.watermark == 9_000
    assert registry.get_sample_value("slipstream_features_watermark_seconds") == 9.0
    assert reporter.ask(0.0).applied == 2


def test_the_broker_is_asked_only_for_a_question(
    reporter: StreamProgressReporter, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(around, "remaining", lambda: asked.append(1) or 0)
    reporter.answer(around)
    assert asked == []
    answered(reporter, around)
    reporter.answer(around)
    assert asked == [1]
