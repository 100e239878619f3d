"""The feed of the catalogue in memory: a snapshot of the online store, and the topic `catalog.v1`.

Both are read, since the embedded broker starts with empty topics, and the store may be away. The
catalogue keeps the newer record of each item. Where the store is away at the start, the catalogue
as it was last on this disk stands in.
"""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain

from services.serving.metrics import ServingMetrics
from services.serving.state.catalog_journal import CatalogJournal
from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import consume
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.stores.online import StoreUnavailableError

log = get_logger(__name__)

# Longest time that a store which is away keeps serving from being ready, where the disk holds no
# catalogue. Then the topic alone has to do.
PATIENCE_S = 30.0
# Longest time between two looks at the topic that new items are compared with known ones.
COMPARING_S = 0.05
# Records behind the snapshot on disk, beyond twice the catalogue, at which it is made again.
SURPLUS = 100_000


class CatalogFeed:
    """Two worker targets: `snapshot` runs once, `follow` for as long as the service lives."""

    def __init__(
        self,
        catalog: Catalog,
        snapshot: Callable[[], Iterable[StreamCatalogRecord]],
        consumer: Callable[[], Consumer],
        journal: CatalogJournal,
        chassis: Metrics,
        measured: ServingMetrics,
    ) -> None:
        """A feed that has read nothing yet.

        Args:
            snapshot: Reads the online store's records.
            consumer: Makes a consumer of `catalog.v1` that begins at its beginning.
        """
        self._catalog, self._snapshot, self._consumer = catalog, snapshot, consumer
        self._journal, self._measured = journal, measured
        self.watch = ConsumerWatch(chassis)
        self._caught_up, self._loaded = threading.Event(), threading.Event()
        # The broker was looked for in vain, now or before: readiness does not wait for it.
        self.broker_was_away = False
        self._first_tried: float | None = None
        self._tried = threading.Event()

    def snapshot(self, stop: threading.Event) -> None:
        """Take in the online store's snapshot.

        Where the store is away or holds nothing, the catalogue on disk is taken in. Raises when the
        store is away, so that the worker tries again.
        """
        if self._first_tried is None:
            self._first_tried = time.monotonic()
        try:
            with self._journal.turn(stop) as mine:
                if not mine or not self._take_snapshot(stop):
                    return
        except StoreUnavailableError:
            self._load_from_disk()
            raise
        finally:
            self._tried.set()
        self._loaded.set()
        self._catalog.drop_early_patches()
        self._measured.catalog_items.set(len(self._catalog))
        log.info("catalogue loaded", items=len(self._catalog))

    def _take_snapshot(self, stop: threading.Event) -> bool:
        """Whether it was taken in whole: of the processes of a service, one reads it for all."""
        if self._journal.load(self._catalog, of_this_run=True):
            return True
        entries = iter(self._snapshot())
        first = next(entries, None)
        if first is None and self._journal.load(self._catalog):
            return True
        for entry in () if first is None else chain([first], entries):
            if stop.is_set():
                return False
            self._catalog.apply(entry)
        # From what is known, and not from the store alone: changes may have come before.
        self._journal.rewrite(self._catalog)
        return True

    def follow(self, stop: threading.Event) -> None:
        """The same as `tail`, once the snapshot was taken in or tried in vain.

        A record that the snapshot has is passed over, while one that came before would be memory of
        this process.
        """
        while not self._tried.wait(0.1):
            if stop.is_set():
                return
        self.tail(stop)

    def tail(self, stop: threading.Event) -> None:
        """Read `catalog.v1` from its beginning until `stop` is set."""
        try:
            consume(
                self._consumer(),
                self._take,
                stop,
                self.watch,
                at_end=self._caught_up.set,
                each_turn=lambda: self._catalog.compare_new_items(COMPARING_S),
            )
        except BrokerUnavailableError:
            self.broker_was_away = True
            raise

    def _load_from_disk(self) -> None:
        if self._loaded.is_set() or not self._journal.load(self._catalog):
            return
        self._measured.catalog_items.set(len(self._catalog))
        log.warning("catalogue loaded from this disk", items=len(self._catalog))
        self._loaded.set()

    def _take(self, batch: Batch) -> None:
        entries = [
            StreamCatalogRecord(*message.position, message.record) for message in batch.messages
        ]
        if news := [entry for entry in entries if self._catalog.apply(entry)]:
            self._journal.append(news)
        if self._journal.appended > 2 * len(self._catalog) + SURPLUS:
            with self._journal.turn() as mine:
                if mine:
                    self._journal.rewrite(self._catalog)
        self._measured.catalog_items.set(len(self._catalog))

    @property
    def is_complete(self) -> bool:
        """Whether both the snapshot and the topic, up to its end at start, were read."""
        return self._caught_up.is_set() and self._loaded.is_set()

    async def check(self) -> None:
        """Readiness: raises until the catalogue is known as it is, or was last.

        That is: a snapshot, from the store or from the disk, and the topic up to its end at start.
        Where the broker is away, the snapshot has to do, and without any for `PATIENCE_S`, the
        topic has to. Before that, a deleted item could be shown.
        """
        if not self._caught_up.is_set() and not (self.broker_was_away and self._loaded.is_set()):
            raise RuntimeError("the catalogue is still being read")
        waited_s = time.monotonic() - self._first_tried if self._first_tried is not None else 0.0
        if not self._loaded.is_set() and waited_s < PATIENCE_S:
            raise RuntimeError("the online store's catalogue is still being read")
