"""The REST API of features, through the whole app and on its servers."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from services.features.app import create_app
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import KafkaSettings, LakeSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import INTERACTIONS, topic_of
from slipstream.features.views import ITEM, VISITOR
from tests.conftest import OwnRedis
from tests.integration.running_materializer import steady
from tests.integration.shop_stream import events, link, send_entries
from tests.integration.view_reading import every_view_is_read

OLD = 1_000_000_000_000


@pytest.fixture
async def client(
    broker: KafkaSettings, own_redis: OwnRedis, lake_settings: LakeSettings, namespace: str
) -> AsyncIterator[httpx.AsyncClient]:
    redis, server = own_redis()
    section = FeaturesSection(lake_flush_s=0.2)
    settings = FeaturesSettings(
        kafka=broker, redis=redis, lake=lake_settings, namespace=namespace, features=section
    )
    app = create_app(steady(settings))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://features", timeout=60
        ) as made,
    ):
        made.redis = server  # type: ignore[attr-defined]
        yield made


async def put(
    client: httpx.AsyncClient, broker: KafkaSettings, namespace: str, made: list[Interaction]
) -> dict:
    producer = Producer(broker, namespace)
    for event in made:
        producer.send(INTERACTIONS, event.user_id, event)
    await asyncio.to_thread(producer.flush)
    await asyncio.to_thread(producer.close)
    return await caught_up(client)


async def caught_up(client: httpx.AsyncClient) -> dict:
    async with asyncio.timeout(60):
        while not (status := (await client.get("/v1/status")).json())["caught_up"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return status


async def test_reads_statuses_health_and_feast_answers(
    client: httpx.AsyncClient, broker: KafkaSettings, namespace: str
) -> None:
    made = events(60, visitors=1, items=3)
    old = made[0].model_copy(
        update={
            "user_id": "gone/by",
            "event_id": "old",
            "timestamp": OLD,
            "event_type": "view",
            "item_id": "x",
            "imported": True,
        }
    )
    status = await put(client, broker, namespace, [*made, old])
    assert (status["applied"], status["lag"], status["lake"]["interactions"]) == (61, 0, 61)
    assert status["watermark"] == max(event.timestamp for event in made)
    assert status["lake"]["version"] >= 1

    detail = (await client.get("/v1/features/visitor/u0")).json()
    assert sum(detail["counts"].values()) == 60
    assert tuple(detail["features"]) == VISITOR.feature_names
    assert detail["features"]["recent_times"] == [each["timestamp"] for each in detail["sequence"]]
    assert detail["sequence"][-1].keys() == {"item_id", "event_type", "timestamp", "value"}
    shown = sorted(
        (event.timestamp, event.item_id) for event in made if event.event_type == "impression"
    )
    assert detail["impressions"] == [{"timestamp": at, "item_id": item} for at, item in shown]
    assert (await client.get("/v1/features/visitor/gone/by")).json()["last_seen"] == OLD
    item = (await client.get("/v1/features/item/i1")).json()
    assert tuple(item["features"]) == ITEM.feature_names
    assert "sequence" not in item
    missing = await client.get("/v1/features/item/never")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_item")
    assert (await client.get("/v1/features/shop/u0")).status_code == 422
    await every_view_is_read(client)

    body = {
        "features": ["visitor:views", "item:popularity", "visitor:hours_since_last"],
        "entities": {"user_id": ["u0", "gone/by", "never"], "item_id": ["i0", "i1", "never"]},
    }
    answer = (await client.post("/get-online-features", json=body)).json()
    assert answer["metadata"]["feature_names"] == [
        "user_id",
        "item_id",
        "views",
        "popularity",
        "hours_since_last",
    ]
    by_name = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert by_name["user_id"]["values"] == ["u0", "gone/by", "never"]
    assert by_name["views"]["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert by_name["views"]["values"] == [detail["features"]["views"], None, None]
    assert by_name["views"]["event_timestamps"][1:] == [
        "2001-09-09T01:46:40Z",
        "1970-01-01T00:00:00Z",
    ]
    assert by_name["popularity"]["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    full = (
        await client.post("/get-online-features", json=body | {"full_feature_names": True})
    ).json()
    assert full["metadata"]["feature_names"][2] == "visitor__views"

    for wrong, code in (
        ({"features": ["visitor:nothing"], "entities": {"user_id": ["u0"]}}, "unknown_feature"),
        ({"features": ["visitor:views"], "entities": {"item_id": ["i0"]}}, "missing_entity"),
        (
            {
                "features": ["visitor:views"],
                "entities": {"user_id": ["u0"], "item_id": ["i0", "i1"]},
            },
            "unequal_entities",
        ),
    ):
        refused = await client.post("/get-online-features", json=wrong)
        assert (refused.status_code, refused.json()["code"]) == (400, code), wrong

    views = (await client.get("/v1/feature-views")).json()["items"]
    assert [
        (view["name"], view["join_keys"], view["ttl_s"] * 1000 // DAY_MS) for view in views
    ] == [
        ("visitor", ["user_id"], 90),
        ("session", ["user_id"], 90),
        ("visitor_affinity", ["user_id"], 90),
        ("item", ["item_id"], 180),
        ("item_neighbours", ["item_id"], 180),
        ("request", ["user_id", "item_id"], 90),
    ]
    assert (await client.get("/health")).status_code == 200
    async with asyncio.timeout(60):  # on a busy machine a check may be late
        while (ready := await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert {"redis", "lake", "kafka", "materializer"} <= ready.json()["checks"].keys()


async def test_features_of_pairs_are_read_in_feasts_form(
    client: httpx.AsyncClient, broker: KafkaSettings, namespace: str
) -> None:
    now = now_ms()
    producer = Producer(broker, namespace)
    entries = [
        CatalogRecord(entity="item", entity_id=item, attributes=attributes, timestamp=now)
        for item, attributes in {
            "i1": {"category": "shoes", "price": 10.0}, "i2": {"category": "hats", "price": 30.0},
        }.items()
    ]  # fmt: skip
    await asyncio.to_thread(send_entries, producer, entries)
    await asyncio.to_thread(producer.close)
    assert (await caught_up(client))["lake"]["catalog"] == 2
    did = [("view", "i1", 60_000), ("purchase", "i1", 30_000), ("view", "i2", 10_000)]
    made = [
        Interaction(
            event_id=f"p{ago}", event_type=kind, user_id="p/1", item_id=item, timestamp=now - ago,
            received_at=now,
        )
        for kind, item, ago in did
    ]  # fmt: skip
    await put(client, broker, namespace, made)

    body = {
        "features": [
            "visitor:history_length", "visitor:recent_items", "session:minutes",
            "visitor_affinity:top_category", "visitor_affinity:price_high", "item:purchases",
            "item_neighbours:neighbours", "request:item_price", "request:item_events",
        ],
        "entities": {"user_id": ["p/1", "never"], "item_id": ["i1", "i3"]},
    }  # fmt: skip
    answer = (await client.post("/get-online-features", json=body)).json()
    by_name = {
        name: list(zip(result["values"], result["statuses"], strict=True))
        for name, result in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)
    }
    gone = (None, "NOT_FOUND")
    assert by_name["recent_items"] == [(["i1", "i1", "i2"], "PRESENT"), gone]
    assert by_name["top_category"] == [("shoes", "PRESENT"), gone]
    assert by_name["price_high"] == [(10.0, "PRESENT"), gone]
    assert by_name["purchases"] == [(1, "PRESENT"), gone]
    assert by_name["item_price"] == [(10.0, "PRESENT"), (-1.0, "PRESENT")]
    assert by_name["item_events"] == [(2, "PRESENT"), (0, "PRESENT")]
    assert by_name["minutes"][0][1] == "PRESENT"


async def test_odd_ids_are_no_failure_of_the_server(client: httpx.AsyncClient) -> None:
    body = '{"features": ["visitor:views"], "entities": {"user_id": [%s]}}'
    nul = '"\\u0000"'
    odd = ['"\\ud800"', '"\\udfff\\ud800"', '"a\\ud83dz"', "1" * 5_000, "[[[]]]", "NaN", nul]
    for text in odd:
        answer = await client.post("/get-online-features", content=body % text)
        assert answer.status_code == 422 or (text == nul and answer.status_code == 200), text[:20]


async def test_readiness_names_redis_and_reads_say_unavailable_while_it_is_away(
    client: httpx.AsyncClient,
) -> None:
    await asyncio.to_thread(client.redis.kill)  # type: ignore[attr-defined]
    ready = await client.get("/health/ready")
    assert (ready.status_code, "redis" in ready.json()["down"]) == (503, True)
    refused = await client.get("/v1/features/visitor/u0")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    await asyncio.to_thread(client.redis.start)  # type: ignore[attr-defined]
    assert (await client.get("/v1/features/visitor/u0")).status_code == 404


async def test_what_is_kept_of_a_user_and_of_linked_visitors_is_exported(
    client: httpx.AsyncClient, broker: KafkaSettings, namespace: str
) -> None:
    made = events(60, visitors=3)
    producer = Producer(broker, namespace)
    await asyncio.to_thread(send_entries, producer, [link("u0", "u1")])
    await asyncio.to_thread(producer.close)
    await put(client, broker, namespace, made)
    answer = await client.get("/v1/users/u1/export")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    theirs = [event for event in made if event.user_id in ("u0", "u1")]
    assert lines[0]["ids"] == ["u0", "u0~unproven", "u1", "u1~unproven"]
    assert sum(lines[0]["counts"].values()) == len(theirs)
    assert len(lines[0]["impressions"]) == lines[0]["counts"]["impression"]
    assert [line["entity"] for line in lines if line["kind"] == "entry"] == ["identity"]
    rows = [line["event_id"] for line in lines if line["kind"] == "interactions"]
    assert sorted(rows) == sorted(event.event_id for event in theirs)


async def test_the_catalogue_is_read_one_by_one_and_in_pages(
    client: httpx.AsyncClient, broker: KafkaSettings, namespace: str
) -> None:
    producer = Producer(broker, namespace)
    entries = [
        CatalogRecord(entity="item", entity_id=f"i/{number:03}", timestamp=number, source="shop")
        for number in range(300)
    ]
    entries += [
        entries[7].model_copy(update={"deleted": True}),
        CatalogRecord(entity="user", entity_id="ada", timestamp=5, attributes={"city": "Oslo"}),
    ]
    for entry in entries:
        producer.send(topic_of(entry), f"{entry.entity}:{entry.entity_id}", entry)
    await asyncio.to_thread(producer.flush)
    await asyncio.to_thread(producer.close)
    await caught_up(client)

    one = (await client.get("/v1/items/i/003")).json()
    assert one == {
        "item_id": "i/003", "available": True, "attributes": {}, "updated_at": 3, "source": "shop",
    }  # fmt: skip
    found, cursor, sizes = [], "", []
    while cursor is not None:
        page = (await client.get("/v1/items", params={"limit": 70, "cursor": cursor})).json()
        found += [item["item_id"] for item in page["items"]]
        cursor, sizes = page["next_cursor"], [*sizes, len(page["items"])]
    assert sorted(found) == [f"i/{number:03}" for number in range(300) if number != 7]
    assert max(sizes) <= 70
    assert (await client.get("/v1/users/ada")).json()["attributes"] == {"city": "Oslo"}
    for path, status, code in (
        ("/v1/items/i/007", 404, "unknown_item"),
        ("/v1/items/nothing", 404, "unknown_item"),
        ("/v1/users/eve", 404, "unknown_user"),
        ("/v1/items?cursor=abc", 400, "invalid_cursor"),
    ):
        refused = await client.get(path)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
