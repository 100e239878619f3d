"""When serving may say that it knows the catalogue."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.state import catalog_feed
from services.serving.state.catalog_feed import CatalogFeed
from services.serving.state.catalog_journal import CatalogJournal
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import Batch, Message
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import Source, StreamCatalogRecord
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.stores.online import StoreUnavailableError
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer
from tests.unit.serving.fakes import ITEMS, SHELVES, described_bundle, item_record, model

RUNS = itertools.count()


class Scene:
    """A start of the service, whose feed looks at its topic once.

    The snapshot is what `stored` gives, or raises.
    """

    def __init__(self, path: Path, run: str = "") -> None:
        self.catalog, self.consumer = Catalog(), ScriptedConsumer()
        self.stored: list[StreamCatalogRecord] | None = None
        self.broker_away = False
        self.feed = CatalogFeed(
            self.catalog,
            self._records,
            self._connect,
            CatalogJournal(path / "catalog", run=run or str(next(RUNS))),
            Metrics("serving"),
            ServingMetrics(CollectorRegistry()),
        )

    def _connect(self) -> Any:
        if self.broker_away:
            raise BrokerUnavailableError("away")
        return self.consumer

    def _records(self) -> Iterator[StreamCatalogRecord]:
        if self.stored is None:
            raise StoreUnavailableError("away")
        yield from self.stored


def test_further_processes_map_what_the_first_has_read_and_the_changes_since(
    tmp_path: Path,
) -> None:
    first = Scene(tmp_path, "run")
    first.stored = [item_record("a", attributes={"colour": "red"}), item_record("b")]
    first.feed.snapshot(threading.Event())
    change = item_record("b", timestamp=2, available=False).record
    first.consumer.batches = [Batch([Message(SOURCE, 2, "item:b", change, "")])]
    first.feed.follow(first.consumer.stop)
    further = Scene(tmp_path, "run")  # the store is away for it
    further.feed.snapshot(threading.Event())
    assert list(further.catalog.records()) == list(first.catalog.records())
    assert [further.catalog.shown(item_id) for item_id in ("a", "b")] == [True, False]


def test_the_topic_is_read_once_the_snapshot_was_tried(tmp_path: Path) -> None:
    scene, order = Scene(tmp_path), []
    scene.feed.tail = lambda _: order.append("topic")  # type: ignore[method-assign]
    following = threading.Thread(target=scene.feed.follow, args=(threading.Event(),))
    following.start()
    time.sleep(0.15)
    order.append("snapshot")
    with pytest.raises(StoreUnavailableError):
        scene.feed.snapshot(threading.Event())
    following.join(10)
    assert order == ["snapshot", "topic"]


async def test_not_ready_before_the_snapshot_nor_before_the_topic_was_read(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    scene.feed.tail(scene.consumer.stop)
    with pytest.raises(StoreUnavailableError):
        scene.feed.snapshot(threading.Event())
    with pytest.raises(RuntimeError, match="online store's catalogue"):
        await scene.feed.check()
    monkeypatch.setattr(catalog_feed, "PATIENCE_S", 0.0)
    await scene.feed.check()


async def test_an_empty_poll_short_of_the_end_is_not_taken_for_the_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
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


def test_a_new_item_of_the_topic_is_compared_with_those_that_the_model_knows(
    tmp_path: Path,
) -> None:
    scene, served = Scene(tmp_path), model(described_bundle())
    space = scene.catalog.space(served)
    new = item_record("new", attributes={"shelf": SHELVES["item-05"]}).record
    scene.consumer.batches = [Batch([Message(SOURCE, 2, "item:new", new, "")])]
    scene.feed.tail(scene.consumer.stop)
    assert space.new_items is not None
    nearest = space.new_items.nearest(len(ITEMS), 2)
    assert {served.bundle.item_ids[item] for item in nearest} == {"item-04", "item-05"}


def test_a_patch_is_merged_into_an_item_that_only_the_store_has(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    # The topic was made anew, and is read before the store.
    for at, changes in ((5, {"price": 5}), (6, {"price": None, "colour": "red"})):
        patch = item_record("a", at, entity="item_patch", available=None, attributes=changes).record
        batch = Batch([Message(Source("catalog.v1", "anew", 0), at, "", patch, "")])
        scene.consumer.batches.append(batch)
    scene.feed.tail(scene.consumer.stop)
    assert "a" not in scene.catalog
    scene.stored = [item_record("a", attributes={"title": "Lamp", "price": 9})]
    scene.feed.snapshot(threading.Event())
    assert scene.catalog.attributes("a") == b'{"title":"Lamp","colour":"red"}'
    restarted = Scene(tmp_path)
    with pytest.raises(StoreUnavailableError):
        restarted.feed.snapshot(threading.Event())
    assert restarted.catalog.attributes("a") == scene.catalog.attributes("a")


async def test_without_the_broker_a_snapshot_of_the_store_makes_it_ready(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.stored, scene.broker_away = [item_record("gone", deleted=True)], True
    scene.feed.snapshot(threading.Event())
    with pytest.raises(RuntimeError, match="the catalogue is still being read"):
        await scene.feed.check()
    with pytest.raises(BrokerUnavailableError):
        scene.feed.tail(threading.Event())
    await scene.feed.check()
    assert not scene.catalog.shown("gone")


async def test_without_broker_and_store_the_catalogue_is_as_it_was_last_on_this_disk(
    tmp_path: Path,
) -> None:
    before = Scene(tmp_path)
    before.stored = [item_record("gone", deleted=True), item_record("sold", attributes={"a": "b"})]
    before.feed.snapshot(threading.Event())
    sold = item_record("sold", timestamp=2, available=False).record
    before.consumer.batches = [Batch([Message(SOURCE, 2, "item:sold", sold, "")])]
    before.feed.tail(before.consumer.stop)

    restarted = Scene(tmp_path)
    restarted.broker_away = True
    with pytest.raises(BrokerUnavailableError):
        restarted.feed.tail(threading.Event())
    with pytest.raises(RuntimeError, match="the catalogue is still being read"):
        await restarted.feed.check()
    with pytest.raises(StoreUnavailableError):
        restarted.feed.snapshot(threading.Event())
    await restarted.feed.check()
    shown = [restarted.catalog.shown(item_id) for item_id in ("gone", "sold", "other")]
    assert shown == [False, False, True]
    assert restarted.catalog.attributes("sold") == before.catalog.attributes("sold")


async def test_a_store_that_lost_everything_leaves_what_the_disk_knows(tmp_path: Path) -> None:
    before = Scene(tmp_path)
    before.stored = [item_record("gone", deleted=True)]
    before.feed.snapshot(threading.Event())
    restarted = Scene(tmp_path)
    restarted.stored = []
    restarted.feed.snapshot(threading.Event())
    assert not restarted.catalog.shown("gone")


async def test_a_new_shops_first_items_are_on_the_disk(tmp_path: Path) -> None:
    before = Scene(tmp_path)
    before.stored = []
    before.feed.snapshot(threading.Event())
    gone = item_record("gone", deleted=True).record
    before.consumer.batches = [Batch([Message(SOURCE, 2, "item:gone", gone, "")])]
    before.feed.tail(before.consumer.stop)
    restarted = Scene(tmp_path)
    with pytest.raises(StoreUnavailableError):
        restarted.feed.snapshot(threading.Event())
    assert not restarted.catalog.shown("gone")


async def test_a_late_snapshot_of_the_store_keeps_the_changes_before_it_on_the_disk(
    tmp_path: Path,
) -> None:
    before = Scene(tmp_path)
    before.stored = [item_record("gone", attributes={"a": "b"})]
    before.feed.snapshot(threading.Event())
    late = Scene(tmp_path)
    gone = item_record("gone", timestamp=2, deleted=True).record
    late.consumer.batches = [Batch([Message(SOURCE, 2, "item:gone", gone, "")])]
    late.feed.tail(late.consumer.stop)
    late.stored = before.stored  # features has not written the deletion yet
    late.feed.snapshot(threading.Event())
    restarted = Scene(tmp_path)
    with pytest.raises(StoreUnavailableError):
        restarted.feed.snapshot(threading.Event())
    assert not restarted.catalog.shown("gone")


def test_a_journal_that_has_outgrown_the_catalogue_is_made_anew_from_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_feed, "SURPLUS", 0)
    scene = Scene(tmp_path)
    scene.stored = [item_record("a", timestamp=9)]
    scene.feed.snapshot(threading.Event())
    scene.stored = []  # a store that has lost everything since
    changes = [
        item_record("a", timestamp=at, attributes={"colour": f"c{at}"}, deleted=True).record
        for at in range(10, 14)
    ]
    scene.consumer.batches = [
        Batch([Message(SOURCE, at, "item:a", each, "") for at, each in enumerate(changes, 10)])
    ]
    scene.feed.tail(scene.consumer.stop)
    assert (tmp_path / "catalog.changes.jsonl").read_bytes() == b""
    restarted = Scene(tmp_path)
    with pytest.raises(StoreUnavailableError):
        restarted.feed.snapshot(threading.Event())
    assert not restarted.catalog.shown("a")
    assert restarted.catalog.attributes("a") == b'{"colour":"c13"}'
    assert list(restarted.catalog.records()) == list(scene.catalog.records())
