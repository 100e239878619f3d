"""Model events on a real broker that is away when they happen."""

import shutil
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.training.metrics import TrainingMetrics
from services.training.migrations import MIGRATIONS
from services.training.model_events import Announcer
from services.training.publish import ModelPublisher
from services.training.registry import ModelRegistry
from services.training.repository import ModelEventBook, Repository
from services.training.settings import GateSettings, TrainingSection
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.logging import carrying
from slipstream.chassis.settings import ArtifactSettings, DatabaseSettings, KafkaSettings
from slipstream.chassis.worker import Worker
from slipstream.contracts.topics import MODEL_EVENTS
from slipstream.stores import metadata
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.migrations import migrate
from tests.conftest import OwnBroker
from tests.unit.training.challengers import bundle, result_of
from tests.waiting import until


def told(kafka: KafkaSettings, namespace: str, wanted: int) -> list[tuple[str, str, str]]:
    """Event, version and request of what is on the topic, each once: what has no acknowledgement is
    sent twice.
    """
    consumer = Consumer(kafka, namespace, [MODEL_EVENTS], group=None)
    heard: dict[tuple[str, str, str], None] = {}
    deadline = time.monotonic() + 60
    try:
        while len(heard) < wanted and time.monotonic() < deadline:
            batch = consumer.poll(0.2)
            heard |= {
                (it.record.event.value, it.record.version, it.request_id): None
                for it in batch.messages
            }
    finally:
        consumer.close()
    return list(heard)


@pytest.mark.servers("real")  # it takes ten seconds
def test_events_of_a_time_without_a_broker_are_told_in_order_when_it_is_back(
    own_broker: OwnBroker,
    namespace: str,
    database_settings: DatabaseSettings,
    mlflow_template: Path,
    tmp_path: Path,
) -> None:
    kafka, server = own_broker()
    kafka = kafka.model_copy(update={"delivery_timeout_ms": 2_000})
    ensure_topics(kafka, namespace)
    producer = Producer(kafka, namespace)
    engine = metadata.engine(database_settings)
    migrate(engine, MIGRATIONS)
    artifacts = Artifacts(ArtifactSettings(directory=tmp_path / "models"))
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", artifacts)
    registry.open()
    repository, book = Repository(engine), ModelEventBook(engine)
    announcer = Announcer(book, producer.publish)
    section, measured = TrainingSection(gate=GateSettings()), TrainingMetrics(CollectorRegistry())
    publisher = ModelPublisher(
        registry, repository, artifacts, book, announcer.wake, section, measured, "/lake"
    )
    worker = Worker("announcer", announcer.run).start()
    try:
        server.kill()
        with carrying("r-1"):
            assert publisher.publish(
                "a", bundle(tmp_path, "a"), result_of(popularity=0.05)
            ).promoted
        assert not publisher.publish(
            "b", bundle(tmp_path, "b"), result_of(popularity=-0.05)
        ).promoted
        publisher.promote("b", "by hand")
        publisher.rollback("worse")
        expected = [
            ("registered", "a", "r-1"), ("promoted", "a", "r-1"),
            ("registered", "b", ""), ("refused", "b", ""),
            ("promoted", "b", ""), ("rolled_back", "a", ""),
        ]  # fmt: skip
        waiting = [
            (it.event.event.value, it.event.version, it.request_id) for it in book.unannounced()
        ]
        assert waiting == expected
        server.start()
        until(lambda: not book.unannounced(), "the events were not announced", limit_s=90)
        assert told(kafka, namespace, len(expected)) == expected
        with carrying("r-2"):
            publisher.promote("b", "by hand, again")
        until(lambda: not book.unannounced(), "the event was not announced", limit_s=60)
        assert told(kafka, namespace, len(expected) + 1)[-1] == ("promoted", "b", "r-2")
    finally:
        worker.stop()
        producer.close()
        engine.dispose()
