"""From SQL to the topic: in order, until the broker has acknowledged, whatever comes between."""

import threading
from collections.abc import Sequence

import pytest
import structlog
from sqlalchemy import Engine

from services.training import model_events as announcing
from services.training.model_events import Announcer
from services.training.records import Audit
from services.training.repository import ModelEventBook, Repository
from slipstream.broker.kafka import BrokerUnavailableError, NotAcknowledgedError, RecordRefusedError
from slipstream.broker.producer import OutgoingRecord
from slipstream.contracts.events import ModelEvent, ModelEventType


class Broker:
    """Takes a record, or answers with the next of `failures`, having taken it all the same where
    nothing was acknowledged.
    """

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.heard: list[tuple[str, str, str]] = []
        self.refusals = threading.Semaphore(0)
        self.enough = threading.Event()
        self.expected = 0

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        (record,) = records
        event = record.record
        assert isinstance(event, ModelEvent) and (record.topic.name, record.key) == (
            "model-events.v1",
            "recommender",
        )
        failure = self.failures.pop(0) if self.failures else None
        if failure is None or isinstance(failure, NotAcknowledgedError):
            self.heard.append((event.event.value, event.version, record.request_id))
        if failure is not None:
            self.refusals.release()
            raise failure
        if len(self.heard) >= self.expected:
            self.enough.set()


def event(version: str, kind: ModelEventType = ModelEventType.PROMOTED) -> ModelEvent:
    return ModelEvent(event=kind, version=version, timestamp=1)


@pytest.fixture
def book(engine: Engine) -> ModelEventBook:
    return ModelEventBook(engine)


def test_events_are_told_once_in_their_order_with_their_request(
    book: ModelEventBook, engine: Engine
) -> None:
    broker = Broker()
    announcer = Announcer(book, broker.publish)
    for number in range(3):
        book.add(event(f"v{number}"), f"r-{number}")
    announcer.announce()
    book.add(event("v0", ModelEventType.ROLLED_BACK), "")
    Announcer(ModelEventBook(engine), broker.publish).announce()  # after a restart
    assert broker.heard == [
        ("promoted", "v0", "r-0"),
        ("promoted", "v1", "r-1"),
        ("promoted", "v2", "r-2"),
        ("rolled_back", "v0", ""),
    ]
    assert book.unannounced() == []


def test_what_was_not_acknowledged_is_sent_again_before_what_came_later(
    book: ModelEventBook,
) -> None:
    broker = Broker(None, BrokerUnavailableError("gone"), NotAcknowledgedError("no answer"))
    announcer = Announcer(book, broker.publish)
    for version in ("a", "b", "c"):
        book.add(event(version), "")
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            announcer.announce()
        assert [waiting.event.version for waiting in book.unannounced()] == ["b", "c"]
    announcer.announce()
    assert [version for _, version, _ in broker.heard] == ["a", "b", "b", "c"]


def test_a_record_that_the_broker_never_takes_holds_nothing_up(book: ModelEventBook) -> None:
    broker = Broker(RecordRefusedError("too large"))
    announcer = Announcer(book, broker.publish)
    book.add(event("a"), "")
    book.add(event("b"), "")
    with structlog.testing.capture_logs() as logged:
        announcer.announce()
    assert [version for _, version, _ in broker.heard] == ["b"]
    assert [(entry["log_level"], entry["version"]) for entry in logged] == [("error", "a")]
    assert book.unannounced() == []


def test_the_worker_tells_what_waits_then_what_is_added_and_tries_again_while_the_broker_is_away(
    book: ModelEventBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "RETRY_S", 0.001)
    broker, stop = Broker(*[BrokerUnavailableError("gone")] * 3), threading.Event()
    broker.expected = 1
    announcer = Announcer(book, broker.publish)
    book.add(event("before"), "")
    worker = threading.Thread(target=announcer.run, args=(stop,))
    with structlog.testing.capture_logs() as logged:
        worker.start()
        try:
            assert broker.enough.wait(60)
            broker.enough.clear()
            broker.expected = 3
            for version in ("b", "c"):
                book.add(event(version), "")
                announcer.wake()
            assert broker.enough.wait(60)
        finally:
            stop.set()
            worker.join(60)
    assert [version for _, version, _ in broker.heard] == ["before", "b", "c"]
    assert [entry["event"] for entry in logged] == [
        "model events wait for the broker"
    ]  # once for three tries


def test_events_stand_with_the_decision_that_caused_them_or_not_at_all(
    book: ModelEventBook, repository: Repository
) -> None:
    audit = Audit("a", "a", None, "refused", "worse", {})
    events = [event("a", ModelEventType.REGISTERED), event("a", ModelEventType.REFUSED)]
    repository.record(audit, events, "r-7")
    assert [(it.event.event, it.request_id) for it in book.unannounced()] == [
        ("registered", "r-7"),
        ("refused", "r-7"),
    ]
    broken = event("b").model_copy(update={"version": None})  # no row without a version
    with pytest.raises(Exception, match="NOT NULL"):
        repository.record(Audit("b", "b", None, "promoted", "better", {}), [event("b"), broken], "")
    assert repository.decisions("b") == []
    assert not book.has("b", ModelEventType.PROMOTED)
    assert book.has("a", ModelEventType.REFUSED) and not book.has("a", ModelEventType.PROMOTED)
