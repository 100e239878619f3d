"""The feed of the catalogue in memory: a snapshot of the online store, and the topic `catalog.v1`.

Both are read, since the embedded broker starts with empty topics, and the store may be away. The
catalogue keeps the newer record of each item.
"""

import threading
import time
from collections.abc import Callable, Iterable

from services.serving.catalog import Catalog
from services.serving.metrics import ServingMetrics
from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import observe
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import StreamCatalogRecord

log = get_logger(__name__)

# Longest time that a store which is away keeps serving from being ready. Then the topic alone has
# to do.
PATIENCE_S = 30.0


class CatalogFeed:
    """Two worker targets: `snapshot` runs once, `tail` for as long as the service lives."""

    def __init__(
        self,
        catalog: Catalog,
        snapshot: Callable[[], Iterable[StreamCatalogRecord]],
        consumer: Callable[[], Consumer],
        chassis: Metrics,
        measured: ServingMetrics,
    ) -> None:
        self._catalog, self._snapshot, self._consumer = catalog, snapshot, consumer
        self._chassis, self._measured = chassis, measured
        self.watch = ConsumerWatch(chassis)
        self._caught_up, self._snapshot_taken = threading.Event(), threading.Event()
        self._first_tried: float | None = None

    def snapshot(self, stop: threading.Event) -> None:
        """Take in the online store's snapshot.

        Raises when the store is away, so that the worker tries again.
        """
        if self._first_tried is None:
            self._first_tried = time.monotonic()
        for entry in self._snapshot():
            if stop.is_set():
                return
            self._catalog.apply(entry)
        self._measured.catalog_items.set(len(self._catalog))
        self._snapshot_taken.set()
        log.info("catalogue loaded", items=len(self._catalog))

    def tail(self, stop: threading.Event) -> None:
        """Read `catalog.v1` from its beginning until `stop` is set."""
        consumer = self._consumer()
        self.watch.begin(consumer)
        try:
            ends = consumer.ends()
            while not stop.is_set():
                self._take(consumer.poll(0.5))
                if not self._caught_up.is_set() and consumer.has_reached(ends):
                    self._caught_up.set()
                self.watch.update()
        finally:
            consumer.close()

    async def check(self) -> None:
        """Readiness: raises until the snapshot and the topic up to its end at start are taken in.

        Before that, a deleted item could be shown. Without a store it ends after `PATIENCE_S`.
        """
        if not self._caught_up.is_set():
            raise RuntimeError("the catalogue is still being read")
        waited_s = time.monotonic() - self._first_tried if self._first_tried is not None else 0.0
        if not self._snapshot_taken.is_set() and waited_s < PATIENCE_S:
            raise RuntimeError("the online store's catalogue is still being read")

    def _take(self, batch: Batch) -> None:
        for message in batch.messages:
            self._catalog.apply(StreamCatalogRecord(*message.position, message.record))
        if batch:
            observe(batch, self._chassis)
            self._measured.catalog_items.set(len(self._catalog))
