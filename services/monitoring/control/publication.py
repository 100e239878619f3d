"""Publication of states: from an SQL table to a compacted topic, whenever the topic lacks some.

The other way come the last uses of access keys, from `access-key-uses.v1`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from services.monitoring.control.access_repository import AccessKeyBook
from services.monitoring.settings import MonitoringSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import DELAY_MS
from slipstream.broker.loop import consume
from slipstream.broker.producer import OutgoingRecord
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.topics import ACCESS_KEY_USES, Topic

log = get_logger(__name__)

# Seconds until a stop is noticed.
_STOP_SEEN_S: Final = 0.2

Publish = Callable[[Sequence[OutgoingRecord]], Coroutine[Any, Any, None]]


class Publishable(Protocol):
    """A table of states that notes which of them are on the topic."""

    def unpublished(self) -> list[Any]:
        """Records of the states that are not on the topic yet."""

    def mark_published(self, records: Iterable[Any], /) -> None:
        """Note that these states are on the topic. One that has changed meanwhile still waits."""

    def mark_unpublished(self) -> None:
        """Note that the topic has lost all states."""


class StatePublisher:
    """Publishes states that changed, and all of them where the topic is seen for the first time or
    was recreated.

    `run` is a worker's target. The other methods may be called from any thread.
    """

    def __init__(self, topic: Topic, table: Publishable, publish: Publish) -> None:
        """With all unpublished states to publish.

        Args:
            topic: The topic; its `key` is a field of its records.
            publish: Sends records, and returns when the broker has them.
        """
        self._topic, self._table, self._publish = topic, table, publish
        self._waiting, self._renewed = threading.Event(), threading.Event()
        self.wake()

    def wake(self) -> None:
        """Publish states that changed, at once."""
        self._waiting.set()

    def renew(self) -> None:
        """Publish all states: the topic may have lost them."""
        self._renewed.set()
        self._waiting.set()

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set. Raises `BrokerUnavailableError`, and goes on when called
        again.
        """
        while not stop.is_set():
            if not self._waiting.wait(_STOP_SEEN_S):
                continue
            self._waiting.clear()
            try:
                self._publish_waiting()
            except BaseException:
                self._waiting.set()
                raise

    def _publish_waiting(self) -> None:
        if self._renewed.is_set():
            self._table.mark_unpublished()
            self._renewed.clear()
        records, topic = self._table.unpublished(), self._topic
        asyncio.run(
            self._publish([OutgoingRecord(topic, getattr(it, topic.key), it) for it in records])
        )
        self._table.mark_published(records)
        if records:
            log.info("states published", topic=topic.name, records=len(records))


def uses_target(
    settings: MonitoringSettings, book: AccessKeyBook, metrics: Metrics
) -> Callable[[threading.Event], None]:
    """A worker target that reads all uses that the topic still has, and goes on until stopped.

    Without a group: keeping a use twice changes nothing, and the topic keeps a day.
    """
    kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": DELAY_MS})
    watch = ConsumerWatch(metrics)

    def handle(batch: Batch) -> None:
        uses: dict[str, int] = {}
        for message in batch.messages:
            use = message.record
            uses[use.digest] = max(use.used_at, uses.get(use.digest, 0))
        book.note_uses(uses)

    def run(stop: threading.Event) -> None:
        consumer = Consumer(kafka, settings.namespace, [ACCESS_KEY_USES], group=None)
        consume(consumer, handle, stop, watch)

    return run
