"""The online store rebuilt from the lake: as the stream left it, and while the stream goes on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from services.features.history.backfill import BackfillRequest, backfill
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Source, StreamInteraction, split_source
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import INTERACTIONS
from slipstream.stores.rebuild import Rebuild
from tests.integration.backfill_shop import Shop, all_records, assert_same
from tests.integration.running_materializer import running
from tests.integration.shop_stream import events, link, send
from tests.waiting import until


@pytest.fixture
def shop(redis_settings: RedisSettings, lake_settings: LakeSettings, namespace: str) -> Shop:
    return Shop(
        FeaturesSettings(
            redis=redis_settings,
            lake=lake_settings,
            namespace=namespace,
            features=FeaturesSection(),
        )
    )


def test_a_wiped_store_is_rebuilt_as_the_stream_left_it(shop: Shop, tmp_path: Path) -> None:
    shop.take(shop.events(300))
    shop.take(shop.events(15, "anonymous"))
    shop.take_entries(
        CatalogRecord(entity="item", entity_id="i1", attributes={"category": "shoes"}, timestamp=5)
    )
    time.sleep(0.01)
    shop.take_entries(link("anonymous", "ada"))
    for records in (shop.events(10, "anonymous"), shop.events(10, "ada"), shop.events(100)):
        # Received in another millisecond: nothing else orders partitions among each other.
        time.sleep(0.005)
        received = {"received_at": now_ms()}
        shop.take(
            [
                record._replace(interaction=record.interaction.model_copy(update=received))
                for record in records
            ]
        )
    due = shop.held()
    assert due["visitors"]["anonymous"] == due["visitors"]["ada"] is not None
    shop.wipe()
    assert shop.store.visitor("u1") is None
    report = shop.backfill(tmp_path / "rows")
    assert (report.complete, report.interactions, report.items) == (True, 435, 20)
    assert_same(shop.held(), due)
    rows = pq.read_table(tmp_path / "rows" / "part-00000.parquet")
    assert rows.num_rows == report.rows > 300 and "anonymous" not in rows["user_id"].to_pylist()
    later = shop.events(5, "anonymous")
    shop.take(later)
    ada = shop.store.visitor("ada")
    assert ada is not None and sum(ada.counts.values()) == 40, (
        "the rebuilt marker leads on, and offsets go on"
    )
    shop.store.apply(later)
    assert shop.store.visitor("ada") == ada


def test_what_was_erased_does_not_come_back(shop: Shop) -> None:
    shop.take(shop.events(10, "erased") + shop.events(20))
    # Events are dated by chance, so that the cut alone decides.
    shop.take_entries(CatalogRecord(entity="user", entity_id="erased", deleted=True, timestamp=1))
    shop.wipe()
    assert shop.backfill().complete
    assert shop.store.visitor("erased") is None
    shop.take(shop.events(3, "erased"))
    shop.wipe()
    shop.backfill()
    back = shop.store.visitor("erased")
    assert back is not None and sum(back.counts.values()) == 3


def test_rebuilding_twice_changes_nothing(shop: Shop) -> None:
    shop.take(shop.events(200))
    due = shop.held()
    assert shop.backfill().complete and shop.backfill().complete
    assert_same(shop.held(), due)


def test_a_state_that_is_ahead_of_the_lake_is_left_until_the_lake_has_come_to_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.history.backfill.HOLD_S", 0.2)
    monkeypatch.setattr("services.features.history.backfill.ROUNDS", 1)
    shop.take(shop.events(100) + shop.events(5, "u1"))
    waiting = shop.events(4, "u1")
    shop.store.apply(waiting)
    due = shop.held()
    report = shop.backfill()
    assert report.visitors_left == 1 and report.items_left >= 1 and report.trending_left
    assert_same(shop.held(), due)
    shop.archive(waiting)
    assert shop.backfill().complete
    assert_same(shop.held(), due)


@pytest.mark.servers("real")  # it takes ten seconds
@pytest.mark.parametrize("cooperative", [True, False])
def test_a_backfill_beside_the_stream_loses_and_doubles_nothing(
    shop: Shop, cooperative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wiped store is rebuilt while events go on, which reach the lake half a second late.

    A consumer that does not pause when it is asked makes the rebuild slower, not wrong.
    """
    if not cooperative:
        monkeypatch.setattr("services.features.history.backfill.HOLD_S", 2.0)
    shop.take(shop.events(600))
    shop.wipe()
    stop = threading.Event()
    failures: list[BaseException] = []

    def stream() -> None:
        late: list[tuple[float, list[StreamInteraction]]] = []
        try:
            while not stop.is_set() or late:
                if not stop.is_set() and not (cooperative and shop.store.held()):
                    records = shop.events(6)
                    shop.store.apply(records)
                    late.append((time.monotonic() + 0.5, records))
                while late and (stop.is_set() or late[0][0] <= time.monotonic()):
                    shop.archive(late.pop(0)[1])
                time.sleep(0.02)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        time.sleep(0.5)
        first = shop.backfill()
        time.sleep(0.3)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    if cooperative:
        assert first.complete
    else:
        assert shop.backfill().complete
    rebuilt = shop.held()
    shop.wipe()
    fresh = Shop(shop.settings)
    fresh.store.apply(all_records(shop.lake))
    assert_same(rebuilt, fresh.held())


def viewed(shop: Shop, item_id: str) -> StreamInteraction:
    """The next event: a visitor who views this item now."""
    (record,) = shop.events(1, "u1")
    event = record.interaction.model_copy(
        update={"item_id": item_id, "event_type": "view", "timestamp": now_ms()}
    )
    return record._replace(interaction=event)


def test_pairs_that_a_visitor_without_its_history_could_not_make_are_made_up_for(
    shop: Shop,
) -> None:
    """An event that comes after a wipe, and before its visitor is rebuilt, pairs with nothing."""
    shop.take([viewed(shop, "i1"), viewed(shop, "i2")])
    shop.take(shop.events(50))
    shop.wipe()
    shop.store.apply(late := [viewed(shop, "i3"), viewed(shop, "i2"), viewed(shop, "i4")])

    def archive_when_held() -> None:
        until(shop.store.held)
        shop.archive(late)

    with ThreadPoolExecutor(1) as archivist:
        archived = archivist.submit(archive_when_held)
        assert shop.backfill().complete
        archived.result()
    rebuilt = shop.held()
    assert rebuilt["items"]["i1"].neighbours.keys() >= {"i2", "i3", "i4"}
    shop.wipe()
    shop.store.apply(all_records(shop.lake))
    assert_same(rebuilt, shop.held())


def test_the_features_service_holds_while_it_is_asked_and_the_lake_comes_to_where_it_is(
    broker: KafkaSettings, shop: Shop
) -> None:
    settings = shop.settings.model_copy(
        update={"kafka": broker, "features": FeaturesSection(lake_flush_s=0.2)}
    )
    asking = Rebuild(settings.redis, settings.namespace, settings.retention(), lambda _source: -1)
    with running(settings) as features:
        send(features.producer, events(100))
        until(lambda: features.lake.count(INTERACTIONS) == 100)
        asking.hold(300)
        until(lambda: features.materializer._hold._asked_for)
        send(features.producer, events(50, first=100))
        time.sleep(1.0)
        assert features.lake.count(INTERACTIONS) == 100
        archived = [shop.lake.applied_offsets(INTERACTIONS, [s])[s] + 1 for s in _sources(asking)]
        assert sum(archived) == 100
        asking.release()
        features.settle()
        assert features.lake.count(INTERACTIONS) == 150
    asking.close()
    assert backfill(settings, BackfillRequest(settle_s=0), lambda _: None).complete


def _sources(rebuild: Rebuild) -> list[Source]:
    names = rebuild.trending_applied()
    return [Source("interactions.v1", *split_source(name)) for name in names]
