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
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.stores.online import StoreUnavailableError
from tests.unit.broker.scripted import ScriptedConsumer
from tests.unit.serving.fakes import item_record


class Scene:
    """A feed that looks at its topic once; the snapshot is what `stored` gives, or raises."""

    def __init__(self) -> None:
        self.catalog, self.consumer = Catalog(), ScriptedConsumer()
        self.stored: list[StreamCatalogRecord] | None = None
        consumer: Any = self.consumer
        self.feed = CatalogFeed(
            self.catalog,
            self._records,
            lambda: consumer,
            Metrics("serving"),
            ServingMetrics(CollectorRegistry()),
        )

    def _records(self) -> Iterator[StreamCatalogRecord]:
        if self.stored is None:
            raise StoreUnavailableError("away")
        yield from self.stored


async def test_not_ready_before_the_snapshot_nor_before_the_topic_was_read() -> None:
    scene = Scene()
    with pytest.raises(RuntimeError, match="is still being read"):
        await scene.feed.check()
    scene.feed.tail(scene.consumer.stop)
    with pytest.raises(RuntimeError, match="online store's catalogue is still being read"):
        await scene.feed.check()
    scene.stored = [item_record("gone", deleted=True)]
    scene.feed.snapshot(threading.Event())
    await scene.feed.check()
    assert not scene.catalog.shown("gone")


async def test_a_store_that_stays_away_keeps_it_from_being_ready_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    scene.feed.tail(scene.consumer.stop)
    with pytest.raises(StoreUnavailableError):
        scene.feed.snapshot(threading.Event())
    with pytest.raises(RuntimeError, match="online store's catalogue"):
        await scene.feed.check()
    monkeypatch.setattr(catalog_feed, "PATIENCE_S", 0.0)
    await scene.feed.check()


async def test_an_empty_poll_short_of_the_end_is_not_taken_for_the_end() -> None:
    scene = Scene()
    scene.consumer.end = 5
    scene.stored = []
    scene.feed.snapshot(threading.Event())
    scene.feed.tail(scene.consumer.stop)
    with pytest.raises(RuntimeError, match="the catalogue is still being read"):
        await scene.feed.check()
    scene.consumer.stop.clear()
    scene.consumer.position = 5
    scene.feed.tail(scene.consumer.stop)
    await scene.feed.check()
