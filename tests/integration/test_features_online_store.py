"""The online store on a real server counts each record once, whatever interrupts its writers."""

import threading

import pytest

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.visitor import SequenceEvent
from slipstream.stores.layout import Keys
from slipstream.stores.online import (
    OnlineReader,
    OnlineStore,
    Retention,
    StoreUnavailableError,
)
from tests.conftest import OwnRedis
from tests.integration.shop_stream import events

NOW = 1_790_000_000_000


def placed(made: list[Interaction], source: str = "t:0") -> list[StreamInteraction]:
    return [StreamInteraction(source, offset, event) for offset, event in enumerate(made)]


def view(item: str, at: int = NOW, user: str = "u", kind: str = "view") -> Interaction:
    return Interaction(
        event_id=f"{item}{at}",
        event_type=kind,
        user_id=user,
        item_id=item,
        timestamp=at,
        received_at=at,
    )


def total(store: OnlineStore) -> tuple[int, int]:
    visitors = [store.visitor(f"u{number}") for number in range(150)]
    items = store.items([f"i{number}" for number in range(80)])
    return sum(sum(v.counts.values()) for v in visitors if v), sum(
        sum(i.counts.values()) for i in items if i
    )


def test_apply_returns_who_changed_and_a_second_time_nobody(store: OnlineStore) -> None:
    records = placed([view("a"), view("b", NOW + 1), view("a", NOW + 2, "v")])
    changed = store.apply(records)
    assert changed["u"].sequence == [
        SequenceEvent("a", "view", NOW),
        SequenceEvent("b", "view", NOW + 1),
    ]
    assert changed.keys() == {"u", "v"}
    assert store.visitor("u") == changed["u"]
    assert store.visitor("u").applied == {"t:0": 1}
    assert [state.counts if state else None for state in store.items(["a", "nobody", "b"])] == [
        {"view": 2},
        None,
        {"view": 1},
    ]
    assert store.watermark() == NOW + 2
    assert store.apply(records) == {}
    assert store.visitor("nobody") is None


def test_four_writers_at_once_count_every_record_once(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    made = events(1_200)
    by_source = [placed(made[n::4], f"t:{n}") for n in range(4)]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        writer = OnlineStore(redis_settings, namespace)
        try:
            # each writes its own source, then its neighbour's again, as a member that was taken for
            # dead would
            for records in (by_source[number], by_source[(number + 1) % 4]):
                for start in range(0, len(records), 60):
                    writer.apply(records[start : start + 60])
        except BaseException as error:
            failures.append(error)
        finally:
            writer.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert total(store) == (
        len(made),
        sum(event.item_id is not None and not event.unlearned for event in made),
    )


def test_states_expire_when_nothing_comes(
    redis_settings: RedisSettings, namespace: str, redis_url: str
) -> None:
    store = OnlineStore(
        redis_settings, namespace, Retention(visitor_ttl_ms=50_000, item_ttl_ms=70_000)
    )
    store.apply(placed([view("a")]))
    keys = Keys(namespace)
    assert 40_000 < store._redis.pttl(keys.visitor("u")) <= 50_000
    assert 60_000 < store._redis.pttl(keys.item("a")) <= 70_000
    store.close()


def test_catalogue_keeps_the_newest_and_the_tombstones_of_the_deleted(store: OnlineStore) -> None:
    def entry(
        offset: int, at: int, title: str = "", source: str = "c:0", deleted: bool = False
    ) -> StreamCatalogRecord:
        record = CatalogRecord(
            entity="item", entity_id="a", attributes={"title": title}, timestamp=at, deleted=deleted
        )
        return StreamCatalogRecord(source, offset, record)

    def title() -> object:
        return next(
            "gone" if record.deleted else record.attributes["title"]
            for _, _, record in store.catalog_items()
        )

    store.put_catalog([entry(5, 10, "five"), entry(6, 10, "six"), entry(7, 9, "seven")])
    assert title() == "seven", "a replica's clock was behind"
    store.put_catalog([entry(5, 10, "five")])
    assert title() == "seven", "a record read again must not take the newer one's place"
    store.put_catalog([entry(0, 10, "again", "new:0")])
    assert title() == "again", "offsets of another topic say nothing"
    store.put_catalog([entry(8, 12, deleted=True)])
    assert title() == "gone"
    store.put_catalog([entry(6, 10, "six")])
    assert title() == "gone"
    store.put_catalog([entry(9, 13, "back")])
    assert title() == "back"


def test_catalogue_keeps_when_an_item_appeared_until_it_is_deleted(store: OnlineStore) -> None:
    def put(offset: int, at: int, deleted: bool = False) -> int | None:
        record = CatalogRecord(entity="item", entity_id="a", timestamp=at, deleted=deleted)
        store.put_catalog([StreamCatalogRecord("c:0", offset, record)])
        return next(store.catalog_items()).record.appeared_at

    assert [put(0, 10), put(1, 20), put(0, 10)] == [10, 10, 10]
    assert put(2, 15) == 10
    assert [put(3, 30, deleted=True), put(4, 40), put(5, 50)] == [None, 40, 40]


def test_catalogue_snapshot_gives_every_item_once(store: OnlineStore) -> None:
    store.put_catalog(
        [
            StreamCatalogRecord(
                "c:0", n, CatalogRecord(entity="item", entity_id=f"ü{n}", timestamp=1)
            )
            for n in range(1_300)
        ]
        + [StreamCatalogRecord("c:1", 0, CatalogRecord(entity="user", entity_id="u", timestamp=1))]
    )
    assert sorted(record.entity_id for _, _, record in store.catalog_items()) == sorted(
        f"ü{n}" for n in range(1_300)
    )


def test_a_visitor_with_50_events_and_an_item_take_under_a_kilobyte_each(
    store: OnlineStore, namespace: str
) -> None:
    made = [view(f"B{n * 7_919_993 % 10**9:09d}", NOW + n * 41_077) for n in range(50)]
    store.apply(placed(made, "01989c5e-7a1b-7c3d-8e4f-112233445566:3"))
    for partition in range(
        12
    ):  # an item that visitors of every partition came to, in every hour and day that is kept
        source = f"01989c5e-7a1b-7c3d-8e4f-112233445566:{partition}"
        store.apply(
            [
                StreamInteraction(
                    source, 10**6 + h, view("hot", NOW + h * HOUR_MS * 4, f"v{partition}")
                )
                for h in range(48)
            ]
        )
    keys = Keys(namespace)
    assert store._redis.memory_usage(keys.visitor("u"), samples=0) <= 1024
    assert store._redis.memory_usage(keys.item("hot"), samples=0) <= 1024


async def test_reader_reads_what_the_store_wrote(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    store.apply(placed([view("a"), view("b", kind="purchase")]))
    store.put_catalog(
        [
            StreamCatalogRecord(
                "c:0",
                0,
                CatalogRecord(entity="item", entity_id="a", attributes={"x": 1}, timestamp=1),
            )
        ]
    )
    reader = OnlineReader(redis_settings, namespace)
    try:
        await reader.ping()
        assert await reader.visitor("u") == store.visitor("u")
        value = await reader.visitor_value("u")
        assert value is not None and value.state == store.visitor("u")
        assert len(value.revision) == 8 and await reader.visitor_value("nobody") is None
        assert await reader.items(["b", "nobody"]) == store.items(["b", "nobody"])
        assert await reader.trending(5) == store.trending(5)
        assert await reader.trending(5, "week") == store.trending(5, "week") != []
        records = await reader.catalog(["nobody", "a"])
        assert records[0] is None and records[1] is not None and records[1].attributes == {"x": 1}
        assert await reader.items([]) == await reader.catalog([]) == await reader.trending(0) == []
    finally:
        await reader.aclose()


async def test_store_and_reader_say_when_redis_is_away_and_find_it_again(
    own_redis: OwnRedis, namespace: str
) -> None:
    settings, server = own_redis()
    store, reader = OnlineStore(settings, namespace), OnlineReader(settings, namespace)
    store.apply(placed([view("a")]))
    assert await reader.visitor("u") is not None
    server.kill()
    with pytest.raises(StoreUnavailableError):
        store.apply(placed([view("a"), view("b")]))
    with pytest.raises(StoreUnavailableError):
        await reader.visitor("u")
    server.start()
    with pytest.raises(StoreUnavailableError):  # what was written last may be lost
        store.apply(placed([view("a"), view("b")]))
    store.apply(placed([view("a"), view("b")]))
    state = await reader.visitor("u")
    assert state is not None and state.counts == {"view": 2}
    await reader.aclose()
    store.close()


def test_state_that_cannot_be_read_holds_nobody_else_up(store: OnlineStore, namespace: str) -> None:
    key = Keys(namespace).visitor("broken")
    store._redis.set(key, b"12345678\x04damaged")
    changed = store.apply(placed([view("a", user="broken"), view("a", NOW + 1, "v")]))
    assert changed.keys() == {"v"}
    assert store._redis.get(key) == b"12345678\x04damaged", "nothing is folded from empty unseen"
    with pytest.raises(StoreUnavailableError, match="can't be read"):
        store.visitor("broken")


def test_entries_of_users_expire_and_those_of_items_do_not(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = OnlineStore(redis_settings, namespace, Retention(user_ttl_ms=5 * DAY_MS))
    keys, client = Keys(namespace), store._redis
    entries = [
        CatalogRecord(entity="user", entity_id="u", attributes={"plan": "gold"}, timestamp=NOW),
        CatalogRecord(entity="item", entity_id="i", timestamp=NOW),
    ]
    store.put_catalog([StreamCatalogRecord("c:0", at, entry) for at, entry in enumerate(entries)])
    assert 4 * DAY_MS < client.pttl(keys.catalog("user", "u")) <= 5 * DAY_MS
    assert client.pttl(keys.catalog("item", "i")) == -1
    living = {key.decode() for key in client.scan_iter(f"{namespace}:*") if client.pttl(key) == -1}
    assert living == {keys.catalog("item", "i"), keys.catalog_index("item")}
    store.close()
