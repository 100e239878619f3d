"""The consumer that fills the log of records from the topics."""

import threading
from collections.abc import Callable
from operator import attrgetter

from services.monitoring.arrivals import ArrivalSorter
from services.monitoring.people.repository import ErasureLedger
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import consume
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.contracts.late_records import without_late
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.topics import (
    ERASED_VISITORS,
    FEATURE_UPDATES,
    INTERACTIONS,
    MODEL_EVENTS,
    PEOPLE,
    RECOMMENDATIONS,
)

GROUP = "monitoring"
TOPICS = (
    INTERACTIONS,
    RECOMMENDATIONS,
    FEATURE_UPDATES,
    MODEL_EVENTS,
    PEOPLE,
    ERASED_VISITORS,
)
# Reports may be this old: larger batches make fewer transactions.
_REST_S = 1.0
_FETCH_MAX_WAIT_MS = 250


def consumer_target(
    settings: MonitoringSettings,
    records: RecordLog,
    ledger: ErasureLedger,
    sampler: Sampler,
    watch: ConsumerWatch,
    clock: Callable[[], int],
) -> Callable[[threading.Event], None]:
    """A worker target that reads in the group until stopped.

    It commits offsets after the transaction.
    """
    kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": _FETCH_MAX_WAIT_MS})
    retention_ms = settings.monitoring.slate_retention_h * HOUR_MS
    sorter = ArrivalSorter()

    def handle(batch: Batch) -> None:
        now_ms = records.agreed_time(clock())
        timely = list(without_late(batch.messages, attrgetter("record"), ledger.marks_of))
        brought = sorter.sort(timely, now_ms - retention_ms)
        brought.samples = sampler.take(message.record for message in timely)
        records.record(brought, now_ms)
        sampler.keep(brought.samples)

    def run(stop: threading.Event) -> None:
        consumer = Consumer(kafka, settings.namespace, TOPICS, GROUP)
        consume(consumer, handle, stop, watch, rest_s=_REST_S)

    return run
