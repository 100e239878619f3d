"""The service's REST API, on the real servers, through the whole app."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from services.features.app import create_app
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import KafkaSettings, LakeSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS
from slipstream.features.views import ITEM, VISITOR
from slipstream.features.visitor import DAY_MS
from tests.conftest import OwnRedis
from tests.integration.shop_stream import events

OLD = 1_000_000_000_000


@pytest.fixture
async def client(
    broker: KafkaSettings, own_redis: OwnRedis, lake_settings: LakeSettings, namespace: str
) -> AsyncIterator[httpx.AsyncClient]:
    redis, server = own_redis()
    own = FeaturesSection(lake_flush_s=0.2)
    app = create_app(FeaturesSettings(kafka=broker, redis=redis, lake=lake_settings, namespace=namespace, features=own))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://features", timeout=20) as made,
    ):
        made.redis = server  # type: ignore[attr-defined]
        yield made


async def put(client: httpx.AsyncClient, broker: KafkaSettings, namespace: str, made: list[Interaction]) -> dict:
    producer = Producer(broker, namespace)
    for event in made:
        producer.send(INTERACTIONS, event.user_id, event)
    await asyncio.to_thread(producer.flush)
    await asyncio.to_thread(producer.close)
    async with asyncio.timeout(60):
        while not (status := (await client.get("/v1/status")).json())["caught_up"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return status


async def test_reads_statuses_health_and_feast_answers(client: httpx.AsyncClient, broker: KafkaSettings, namespace: str) -> None:
    made = events(60, visitors=1, items=3)
    old = made[0].model_copy(
        update={"user_id": "gone/by", "event_id": "old", "timestamp": OLD, "event_type": "view", "item_id": "x"}
    )
    status = await put(client, broker, namespace, [*made, old])
    assert (status["applied"], status["lag"], status["lake"]["interactions"]) == (61, 0, 61)
    assert status["watermark"] == max(event.timestamp for event in made)
    assert status["lake"]["version"] >= 1

    detail = (await client.get("/v1/features/visitor/u0")).json()
    assert sum(detail["counts"].values()) == 60
    assert tuple(detail["features"]) == VISITOR.numbers
    assert detail["sequence"][-1].keys() == {"item_id", "event_type", "timestamp", "value"}
    assert (await client.get("/v1/features/visitor/gone/by")).json()["last_seen"] == OLD
    item = (await client.get("/v1/features/item/i1")).json()
    assert tuple(item["features"]) == ITEM.numbers
    missing = await client.get("/v1/features/item/never")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_item")
    assert (await client.get("/v1/features/shop/u0")).status_code == 422

    body = {
        "features": ["visitor:views", "item:popularity", "visitor:hours_since_last"],
        "entities": {"user_id": ["u0", "gone/by", "never"], "item_id": ["i0", "i1", "never"]},
    }
    answer = (await client.post("/get-online-features", json=body)).json()
    assert answer["metadata"]["feature_names"] == ["user_id", "item_id", "views", "popularity", "hours_since_last"]
    by_name = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert by_name["user_id"]["values"] == ["u0", "gone/by", "never"]
    assert by_name["views"]["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert by_name["views"]["values"] == [detail["features"]["views"], None, None]
    assert by_name["views"]["event_timestamps"][1:] == ["2001-09-09T01:46:40.000Z", "1970-01-01T00:00:00Z"]
    assert by_name["popularity"]["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    full = (await client.post("/get-online-features", json=body | {"full_feature_names": True})).json()
    assert full["metadata"]["feature_names"][2] == "visitor__views"

    for wrong in (
        {"features": ["shop:views"], "entities": {"user_id": ["u0"]}},
        {"features": ["visitor:nothing"], "entities": {"user_id": ["u0"]}},
        {"features": ["visitor:views"], "entities": {"item_id": ["i0"]}},
        {"features": ["visitor:views", "item:views"], "entities": {"user_id": ["u0"], "item_id": ["i0", "i1"]}},
    ):
        refused = await client.post("/get-online-features", json=wrong)
        assert (refused.status_code, refused.json()["code"]) == (400, "unknown_feature"), wrong

    views = (await client.get("/v1/feature-views")).json()["items"]
    assert [(view["name"], view["join_keys"], view["ttl_s"] * 1000 // DAY_MS) for view in views] == [
        ("visitor", ["user_id"], 90),
        ("session", ["user_id"], 90),
        ("visitor_affinity", ["user_id"], 90),
        ("item", ["item_id"], 180),
        ("item_neighbours", ["item_id"], 180),
        ("request", ["user_id", "item_id"], 90),
    ]
    assert (await client.get("/health")).status_code == 200
    ready = await client.get("/health/ready")
    assert ready.status_code == 200, ready.text
    assert {"redis", "lake", "kafka", "materializer"} <= ready.json()["checks"].keys()


async def test_readiness_names_redis_and_reads_say_unavailable_while_it_is_away(client: httpx.AsyncClient) -> None:
    await asyncio.to_thread(client.redis.kill)  # type: ignore[attr-defined]
    ready = await client.get("/health/ready")
    assert (ready.status_code, "redis" in ready.json()["down"]) == (503, True)
    refused = await client.get("/v1/features/visitor/u0")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    await asyncio.to_thread(client.redis.start)  # type: ignore[attr-defined]
    assert (await client.get("/v1/features/visitor/u0")).status_code == 404
