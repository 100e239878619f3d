"""Receipts of erasures: questions that share a look at the stores."""

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from services.features.history import receipts as receipts_module
from services.features.history.receipts import Receipts
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Cut, Source
from slipstream.contracts.rest import ErasureState
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import CATALOG, ERASURES, SCHEMAS, Lake

ASKERS = 8


class Broker:
    """Beginnings of topics, told when the test lets it, and counted."""

    def __init__(self) -> None:
        self.asked, self.first, self.answers = 0, threading.Event(), threading.Event()
        self.failure: Exception | None = None

    def beginnings(self) -> Cut:
        self.asked += 1
        self.first.set()
        assert self.answers.wait(30)
        if self.failure is not None:
            raise self.failure
        return {"interactions.v1": {"a-0": self.asked}}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with one erasure, which is done, at offset 2 of one source."""
    lake = Lake(LakeSettings(uri=str(tmp_path)), "receipts")
    row = {
        "erasure_id": "e1",
        "erased_at": now_ms(),
        "rows": "{}",
        "version": 3,
        "ends": '{"interactions.v1": {"a-0": 2}}',
    }
    lake.append(ERASURES, pa.Table.from_pylist([row], SCHEMAS[ERASURES]), {})
    return lake


def asked_at_once(
    receipts: Receipts, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> list[Future[ErasureState | None]]:
    """One question that the broker holds, and more that come meanwhile; all are answered then."""
    times, told, read = itertools.count(1.0), threading.Semaphore(0), threading.Lock()

    def monotonic() -> float:
        with read:
            told.release()
            return next(times)

    monkeypatch.setattr(receipts_module, "time", SimpleNamespace(monotonic=monotonic))
    with ThreadPoolExecutor(1 + ASKERS) as pool:
        first = pool.submit(receipts.find, "e1", now_ms())
        assert broker.first.wait(30)
        later = [pool.submit(receipts.find, "e1", now_ms()) for _ in range(ASKERS)]
        # The first reads the clock twice, each of the others once before it waits.
        assert all(told.acquire(timeout=30) for _ in range(2 + ASKERS))
        broker.answers.set()
    return [first, *later]


def test_all_who_wait_share_one_look_that_began_after_they_asked(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    receipts = Receipts(lake, broker.beginnings, lambda: 7)
    first, *later = (each.result() for each in asked_at_once(receipts, broker, monkeypatch))
    assert first is not None and first.topics_left == ["interactions.v1"]
    assert (first.redis_written_at, first.files_left) == (7, 0)
    # By the second look the topic has nothing from before the erasure.
    assert all(each is not None and each.topics_left == [] for each in later)
    assert broker.asked == 2
    assert receipts.find("unknown", now_ms()) is None


def test_a_broker_that_does_not_answer_is_asked_once_for_all_who_wait(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    broker.failure = BrokerUnavailableError("no Kafka broker answers")
    receipts = Receipts(lake, broker.beginnings, lambda: None)
    for each in asked_at_once(receipts, broker, monkeypatch):
        with pytest.raises(BrokerUnavailableError):
            each.result()
    assert broker.asked == 2
    broker.failure = None
    found = receipts.find("e1", now_ms())
    assert found is not None and found.erased_at is not None, "the next question looks again"


def test_an_erasure_that_waits_in_the_lake_is_known_though_nothing_is_done(lake: Lake) -> None:
    row = {
        "entity": "visitor",
        "entity_id": "ada",
        "attributes": "{}",
        "available": False,
        "deleted": True,
        "timestamp": 1,
        "source": "",
        "topic_id": "p",
        "partition": 0,
        "offset": 0,
        "erasure_id": "e2",
    }
    table = pa.Table.from_pylist([row], SCHEMAS[CATALOG])
    lake.append(CATALOG, table, {Source("people.v1", "p", 0): 0})
    receipts = Receipts(lake, dict, lambda: None)
    assert receipts.find("e2", now_ms()) == ErasureState(erasure_id="e2")
