"""A materializer in a thread of the test, with clients that look at its effects."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from services.features.app import tell
from services.features.settings import FeaturesSection, FeaturesSettings
from services.features.stream.erasures import LakeErasures
from services.features.stream.materializer import GROUP, TOPICS, Materializer
from slipstream.broker.consumer import Consumer, describe_group
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.log_ends import committed_offsets, log_ends
from slipstream.broker.producer import Producer
from slipstream.broker.records import Message
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.worker import Worker
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import PERSONAL, Topic
from slipstream.stores.lake import Lake, LakeLease
from slipstream.stores.online import OnlineStore
from tests.integration.shop_stream import send_entries
from tests.waiting import until

# Settings under which effects are soon in the lake, and commits soon made.
QUICK = FeaturesSection(lake_flush_s=0.2, durable_after_s=0.1, max_poll_records=200)


def steady(settings: FeaturesSettings) -> FeaturesSettings:
    """These settings with a session that outlives a stall of seconds. A member that loses its place
    reads again what is not committed, and its counters count that twice.
    """
    kafka = settings.kafka.model_copy(update={"session_timeout_ms": 6_000})
    return settings.model_copy(update={"kafka": kafka})


class RunningMaterializer:
    """A materializer in a worker thread, with clients that look at its effects."""

    def __init__(self, settings: FeaturesSettings) -> None:
        ensure_topics(settings.kafka, settings.namespace)
        self._settings = settings
        self.producer = Producer(settings.kafka, settings.namespace)
        self.store = OnlineStore(settings.redis, settings.namespace, settings.retention())
        self.lake = Lake(settings.lake, settings.namespace)
        self.metrics = Metrics("features")
        self.lease = LakeLease(settings.redis, settings.namespace)
        self.materializer = Materializer(
            settings, self.store, self.lake, self.producer, self.metrics, self.lease
        )
        self._erasing_store = OnlineStore(settings.redis, settings.namespace, settings.retention())
        committed = partial(committed_offsets, settings.kafka, settings.namespace, TOPICS, GROUP)
        ends = partial(log_ends, settings.kafka, settings.namespace, PERSONAL)
        self.erasures = LakeErasures(
            self.lake,
            self._erasing_store,
            self.lease,
            committed,
            ends,
            partial(tell, self.producer),
        )
        self.worker = Worker("materializer", self.materializer.run).start()

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until everything on the topics is applied and in the lake."""
        until(lambda: self.materializer.progress().caught_up, limit_s=timeout_s)

    def ask_to_erase(self, user_id: str) -> None:
        """Send the request to erase a user, with its cut, as ingestion does."""
        cut = log_ends(self._settings.kafka, self._settings.namespace, PERSONAL)
        gone = CatalogRecord(
            entity="user", entity_id=user_id, deleted=True, timestamp=now_ms(), cut=cut
        )
        send_entries(self.producer, [gone])

    def erase(self, people: int) -> None:
        """Run passes of the job until this number of erasures is done."""
        done = 0

        def erased() -> bool:
            nonlocal done
            done += len(self.erasures.step().people)
            return done >= people

        until(erased)

    def lag(self, topic: Topic) -> float | None:
        """The lag that the service exports as a metric."""
        return self.metrics.registry.get_sample_value(
            "slipstream_consumer_lag_records", {"topic": topic.name}
        )

    def stop(self) -> None:
        self.worker.stop(30)
        self.materializer.close()
        self._erasing_store.close()
        self.lease.close()
        self.producer.close()


@contextmanager
def running(settings: FeaturesSettings) -> Iterator[RunningMaterializer]:
    run = RunningMaterializer(settings)
    try:
        yield run
    finally:
        run.stop()


def members(settings: FeaturesSettings) -> int:
    """The members of the features' group; 0 while the broker makes or balances it."""
    try:
        return describe_group(settings.kafka, f"{settings.namespace}.{GROUP}").members
    except BrokerUnavailableError:
        return 0


def messages(settings: FeaturesSettings, topic: Topic, at_least: int) -> list[Message[Any]]:
    """The messages on a topic, once there are at least `at_least`."""
    consumer = Consumer(settings.kafka, settings.namespace, [topic], None)
    read: list[Message[Any]] = []
    deadline = time.monotonic() + 60
    try:
        while len(read) < at_least and time.monotonic() < deadline:
            read += consumer.poll(0.2).messages
    finally:
        consumer.close()
    return read


def events_online(store: OnlineStore, visitors: int = 150) -> int:
    """The number of events that the states of `shop_stream`'s visitors hold."""
    states = [store.visitor(f"u{number}") for number in range(visitors)]
    return sum(sum(state.counts.values()) for state in states if state is not None)


def rollbacks(run: RunningMaterializer) -> float:
    """How often the materializer found that Redis had lost writes."""
    return run.metrics.registry.get_sample_value("slipstream_features_rollbacks_total") or 0


def failure(check: Callable[[], Coroutine[Any, Any, None]]) -> Exception | None:
    """The error that a readiness check raises; None when it passes."""
    try:
        asyncio.run(check())
    except Exception as error:
        return error
    return None
