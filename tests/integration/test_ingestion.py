"""Ingestion on a real broker."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.app import create_app
from services.ingestion.settings import IngestionSection, IngestionSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.records import Message
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import CatalogRecord, DeadLetter, Interaction
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, PEOPLE, Topic

AUTH = ("s3cret", "")


@contextmanager
def ingestion(kafka: KafkaSettings, namespace: str) -> Iterator[TestClient]:
    settings = IngestionSettings(
        namespace=namespace,
        kafka=kafka,
        ingestion=IngestionSection(write_keys=SecretStr("shop:s3cret")),
    )
    with TestClient(create_app(settings)) as client:
        yield client


def records(kafka: KafkaSettings, namespace: str, topic: Topic, count: int) -> list[Message[Any]]:
    """The first `count` records of a topic."""
    consumer = Consumer(kafka, namespace, [topic], None)
    messages: list[Message[Any]] = []
    deadline = time.monotonic() + 60
    try:
        while len(messages) < count and time.monotonic() < deadline:
            messages += consumer.poll(0.2).messages
    finally:
        consumer.close()
    return messages


def track(user: str, item: str, message_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Product Viewed",
        "userId": user,
        "messageId": message_id,
        "properties": {"sku": item},
        **fields,
    }


def test_accepted_events_are_on_the_topic_and_rejected_ones_in_the_dead_letters(
    broker: KafkaSettings, namespace: str
) -> None:
    batch = [
        track("ada", "a", "m-0"),
        {
            "type": "track",
            "event": "Order Completed",
            "userId": "ada",
            "messageId": "m-1",
            "properties": {"products": [{"sku": "a"}, {"sku": "b"}]},
        },
        track("", "a", "m-2"),
        {"type": "identify", "userId": "ada", "traits": {"country": "NZ"}},
        track("bob", "b", "m-4", timestamp=int(time.time() * 1000) - 3_600_000),
    ]
    with ingestion(broker, namespace) as client:
        answer = client.post(
            "/v1/batch", json={"batch": batch}, auth=AUTH, headers={"X-Request-Id": "rid-7"}
        )
        assert answer.status_code == 200
        assert (answer.json()["accepted"], answer.json()["rejected"]) == (4, 1)
        assert client.get("/health/ready").status_code == 200

        taken = records(broker, namespace, INTERACTIONS, 4)
        interactions: list[Interaction] = [message.record for message in taken]
        assert sorted((i.event_id, i.user_id, i.item_id) for i in interactions) == [
            ("m-0", "ada", "a"),
            ("m-1:0", "ada", "a"),
            ("m-1:1", "ada", "b"),
            ("m-4", "bob", "b"),
        ]
        assert [i.event_id for i in interactions if i.user_id == "ada"] == ["m-0", "m-1:0", "m-1:1"]
        assert {
            (message.key == message.record.user_id, message.request_id) for message in taken
        } == {(True, "rid-7")}

        (letter,) = records(broker, namespace, DEAD_LETTERS, 1)
        dead: DeadLetter = letter.record
        assert (dead.code, dead.field, dead.source, dead.request_id, dead.original) == (
            "missing_user",
            "userId",
            "shop",
            "rid-7",
            batch[2] | {"timestamp": dead.received_at},
        )

        (entry,) = records(broker, namespace, PEOPLE, 1)
        user: CatalogRecord = entry.record
        assert (entry.key, user.attributes) == ("user:ada", {"country": "NZ"})


def test_concurrent_requests_are_each_acknowledged(broker: KafkaSettings, namespace: str) -> None:
    import httpx

    settings = IngestionSettings(
        namespace=namespace,
        kafka=broker,
        ingestion=IngestionSection(write_keys=SecretStr("shop:s3cret")),
    )
    app = create_app(settings)

    async def send() -> list[int]:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://ingestion", auth=AUTH, timeout=30
            ) as client:
                calls = (
                    client.post("/v1/track", json=track(f"u-{n % 20}", "a", f"m-{n}"))
                    for n in range(300)
                )
                return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert asyncio.run(send()) == [200] * 300
    taken = records(broker, namespace, INTERACTIONS, 300)
    assert {message.record.event_id for message in taken} == {f"m-{n}" for n in range(300)}


def post_until_taken(client: TestClient, message_id: str) -> Any:
    """The answer to an event that is sent again while the broker is away or late."""
    deadline = time.monotonic() + 60
    while (
        answer := client.post("/v1/track", json=track("ada", "a", message_id), auth=AUTH)
    ).status_code == 503:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def test_broker_away_is_503_until_it_is_back(own_broker: Callable[[], Any], namespace: str) -> None:
    kafka, server = own_broker()
    kafka = kafka.model_copy(update={"delivery_timeout_ms": 1_500})
    with ingestion(kafka, namespace) as client:
        assert post_until_taken(client, "m-0").status_code == 200
        server.kill()
        answer = client.post("/v1/track", json=track("ada", "a", "m-1"), auth=AUTH)
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        ready = client.get("/health/ready")
        assert ready.status_code == 503 and "kafka" in ready.json()["down"]

        server.start()
        assert post_until_taken(client, "m-1").json()["accepted"] == 1
        # Where the broker kept it, the first is there, too.
        assert [message.record.event_id for message in records(kafka, namespace, INTERACTIONS, 1)][
            -1
        ] == "m-1"
