"""The list of active visitors on a real server: who comes in, who goes, and what a reader gets."""

from collections.abc import AsyncIterator, Iterator

import pytest

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from slipstream.stores import folding
from slipstream.stores.online import OnlineReader, OnlineStore, Retention
from tests.integration.merge_stories import NOW, link
from tests.integration.merge_stories import view as view_of


@pytest.fixture
def store(redis_settings: RedisSettings, namespace: str) -> Iterator[OnlineStore]:
    made = OnlineStore(redis_settings, namespace, Retention(visitor_ttl_ms=2 * DAY_MS))
    yield made
    made.close()


@pytest.fixture
async def reader(redis_settings: RedisSettings, namespace: str) -> AsyncIterator[OnlineReader]:
    made = OnlineReader(redis_settings, namespace)
    yield made
    await made.aclose()


def view(name: str, offset: int, timestamp: int) -> StreamInteraction:
    source, _, event = view_of(name, offset, "t:0")
    times = {"timestamp": timestamp, "received_at": timestamp}
    return StreamInteraction(source, offset, event.model_copy(update=times))


def erasure(name: str, offset: int, ends: dict[str, int]) -> StreamCatalogRecord:
    record = CatalogRecord(
        entity="user",
        entity_id=name,
        deleted=True,
        timestamp=NOW,
        cut={INTERACTIONS.name: ends, PEOPLE.name: {"c:0": offset}},
    )
    return StreamCatalogRecord("c:0", offset, record)


async def test_latest_visitors_come_first_whatever_the_order_and_however_often(
    store: OnlineStore, reader: OnlineReader
) -> None:
    assert await reader.active_visitors(10) == []
    records = [view("a", 0, NOW + 3), view("b", 1, NOW + 2), view("a", 2, NOW + 1)]
    store.apply(records[:2])
    store.apply(records)  # the first two once more, as after a crash
    assert await reader.active_visitors(10) == [("a", NOW + 3), ("b", NOW + 2)]
    assert await reader.active_visitors(1) == [("a", NOW + 3)]


async def test_list_keeps_the_latest_and_nobody_longer_than_their_state(
    store: OnlineStore, reader: OnlineReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "TRENDING_KEPT", 20)
    store.apply([view(f"v{place:02}", place, NOW + place) for place in range(50)])
    assert [name for name, _ in await reader.active_visitors(100)] == [
        f"v{place}" for place in range(49, 29, -1)
    ]
    store.apply([view("later", 50, NOW + 3 * DAY_MS)])
    assert await reader.active_visitors(100) == [("later", NOW + 3 * DAY_MS)]


async def test_visitors_who_are_one_user_are_read_as_the_user(
    store: OnlineStore, reader: OnlineReader
) -> None:
    store.apply([view("device", 0, NOW), view("ada", 1, NOW + 1), view("bob", 2, NOW + 2)])
    store.link([link("device", "ada", 0, "c:0")])
    users = await reader.users(["bob", "ada", "device", "nobody"])
    assert {name: user_id for name, (user_id, _) in users.items()} == {
        "bob": "bob",
        "ada": "ada",
        "device": "ada",
    }
    assert users["device"][1] == users["ada"][1]
    assert users["ada"][1].counts == {"view": 2}


async def test_erased_user_leaves_with_all_devices_also_where_older_events_are_read_late(
    store: OnlineStore, reader: OnlineReader
) -> None:
    late = view("ada", 3, NOW + 3)
    store.apply([view("device", 0, NOW), view("ada", 1, NOW + 1), view("bob", 2, NOW + 2)])
    store.link([link("device", "ada", 0, "c:0")])
    store.erase(erasure("ada", 1, {late.source: 4}))
    assert await reader.active_visitors(10) == [("bob", NOW + 2)]
    store.apply([late])  # from before the cut
    store.erasures.forget(["ada", "device"])  # once nothing older can be read
    assert await reader.active_visitors(10) == [("bob", NOW + 2)]
    store.apply([view("ada", 4, NOW + 4)])
    store.erasures.forget(["ada", "device"])
    assert await reader.active_visitors(10) == [("ada", NOW + 4), ("bob", NOW + 2)]
