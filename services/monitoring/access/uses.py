"""The consumer that keeps each access key's last use, from `access-key-uses.v1`."""

import threading
from collections.abc import Callable

from services.monitoring.access.repository import AccessKeyBook
from services.monitoring.settings import MonitoringSettings
from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import DELAY_MS
from slipstream.broker.loop import consume
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.topics import ACCESS_KEY_USES


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
