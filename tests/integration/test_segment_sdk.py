"""Segment's SDK for Python against a separate process of ingestion and a broker."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from segment.analytics.client import Client

from slipstream.broker.consumer import Consumer
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, PEOPLE, Topic
from slipstream.contracts.vocabulary import MERGED_INTO
from tests.integration.ingestion_process import KEY, ingestion_process


@pytest.fixture
def ingestion_url(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> Iterator[str]:
    with ingestion_process(broker, redis_settings, namespace) as url:
        yield url


def _records(kafka: KafkaSettings, namespace: str, topic: Topic, count: int) -> list[Any]:
    """The topic's records, once there are `count`; fewer when they do not come in time."""
    consumer = Consumer(kafka, namespace, [topic], None)
    made: list[Any] = []
    deadline = time.monotonic() + 60
    try:
        while len(made) < count and time.monotonic() < deadline:
            made += [message.record for message in consumer.poll(0.2).messages]
    finally:
        consumer.close()
    return made


@pytest.mark.parametrize("gzip", [False, True])
def test_the_sdk_s_calls_arrive_as_interactions_and_entries(
    ingestion_url: str, broker: KafkaSettings, namespace: str, gzip: bool
) -> None:
    failures: list[Any] = []
    sdk = Client(
        KEY,
        host=ingestion_url,
        gzip=gzip,
        max_retries=1,
        on_error=lambda *problem: failures.append(problem),
    )
    happened = datetime.now(UTC) - timedelta(hours=1)
    sdk.page(anonymous_id="anon", name="Home", category="Shop", properties={"path": "/"})
    sdk.screen(anonymous_id="anon", name="Basket")
    sdk.track(
        anonymous_id="anon",
        event="Product Viewed",
        properties={"sku": "a", "price": 9.5},
        timestamp=happened,
    )
    sdk.identify(user_id="ada", anonymous_id="anon", traits={"country": "NZ"})
    sdk.alias(previous_id="old-ada", user_id="ada")
    sdk.group(user_id="ada", group_id="g-1", traits={"plan": "gold"})
    order = {
        "order_id": "o-1",
        "products": [{"product_id": "a", "price": 2, "quantity": 3}, {"product_id": "b"}],
    }
    sdk.track("ada", "Order Completed", order, message_id="order-1")
    sdk.shutdown()
    assert failures == []

    taken: list[Interaction] = _records(broker, namespace, INTERACTIONS, 6)
    by_type = {(i.event_type, i.item_id): i for i in taken}
    assert by_type.keys() == {
        ("page", None), ("screen", None), ("view", "a"), ("group", None), ("purchase", "a"),
        ("purchase", "b"),
    }  # fmt: skip
    assert by_type["page", None].properties == {"name": "Home", "category": "Shop", "path": "/"}
    viewed = by_type["view", "a"]
    assert (viewed.user_id, viewed.anonymous_id, viewed.value, viewed.source) == (
        "anon",
        "anon",
        9.5,
        "shop",
    )
    # Corrected by how long the message was under way, which is how far the two clocks seem to be
    # apart.
    assert abs(viewed.timestamp - happened.timestamp() * 1000) < 20_000
    assert by_type["group", None].properties == {"groupId": "g-1", "traits": {"plan": "gold"}}
    assert (by_type["purchase", "a"].event_id, by_type["purchase", "a"].value) == ("order-1:0", 6.0)

    entries: list[CatalogRecord] = _records(broker, namespace, PEOPLE, 3)
    assert sorted((e.entity, e.entity_id, str(e.attributes)) for e in entries) == [
        ("identity", "anon", str({MERGED_INTO: "ada"})),
        ("identity", "old-ada", str({MERGED_INTO: "ada"})),
        ("user", "ada", str({"country": "NZ"})),
    ]

    # Nothing was rejected before: the only dead letter is that of this last call.
    answer = httpx.post(
        f"{ingestion_url}/v1/track", json={"event": "x"}, auth=(KEY, ""), timeout=30
    )
    assert answer.json()["rejected"] == 1
    assert [letter.code for letter in _records(broker, namespace, DEAD_LETTERS, 1)] == [
        "missing_user"
    ]


def test_the_sdk_reads_why_it_was_refused(ingestion_url: str) -> None:
    failures: list[Any] = []
    sdk = Client(
        "wrong",
        host=ingestion_url,
        max_retries=0,
        on_error=lambda error, _batch: failures.append(error),
    )
    sdk.track("ada", "Product Viewed", {"sku": "a"})
    sdk.shutdown()
    assert [error.status for error in failures] == [401]
