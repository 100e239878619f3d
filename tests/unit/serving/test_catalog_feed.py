"""When serving may say that it knows the catalogue."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.serving import catalog_feed
from services.serving.catalog import Catalog
from services.serving.catalog_feed import CatalogFeed
from services.serving.metrics import ServingMetrics
from slipstream.broker.consumer import Batch
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import CatalogRecord
from slipstream.stores.online import StoreUnavailableError
from tests.unit.serving.fakes import item_record


class EmptyTopic:
    """A consumer of a topic that has nothing, as after a restart of the embedded broker. It ends the reading after one look."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def end_offsets(self) -> dict[Any, int]:
        return {}

    def poll(self, timeout_s: float) -> Batch:
        self._stop.set()
        return Batch()

    def lag(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


class Scene:
    """A feed whose topic is empty; the snapshot is what `stored` gives, or raises."""

    def __init__(self) -> None:
        self.catalog, self.stop = Catalog(), threading.Event()
        self.stored: list[CatalogRecord] | None = None
        consumer: Any = EmptyTopic(self.stop)
        self.feed = CatalogFeed(
            self.catalog, self._records, lambda: consumer, Metrics("serving"), ServingMetrics(CollectorRegistry())
        )

    def _records(self) -> Iterator[CatalogRecord]:
        if self.stored is None:
            raise StoreUnavailableError("away")
        yield from self.stored


async def test_not_ready_before_the_snapshot_nor_before_the_topic_was_read() -> None:
    scene = Scene()
    with pytest.raises(RuntimeError, match="is still being read"):
        await scene.feed.check()
    scene.feed.tail(scene.stop)
    with pytest.raises(RuntimeError, match="online store's catalogue is still being read"):
        await scene.feed.check()
    scene.stored = [item_record("gone", deleted=True)]
    scene.feed.snapshot(threading.Event())
    await scene.feed.check()
    assert not scene.catalog.shown("gone")


async def test_a_store_that_stays_away_keeps_it_from_being_ready_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.feed.tail(scene.stop)
    with pytest.raises(StoreUnavailableError):
        scene.feed.snapshot(threading.Event())
    with pytest.raises(RuntimeError, match="online store's catalogue"):
        await scene.feed.check()
    monkeypatch.setattr(catalog_feed, "PATIENCE_S", 0.0)
    await scene.feed.check()
