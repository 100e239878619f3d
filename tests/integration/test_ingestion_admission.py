"""Repeats, limits and keys of ingestion, on a real broker and a real Redis."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.app import create_app
from services.ingestion.settings import IngestionSection, IngestionSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.records import Batch
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.topics import INTERACTIONS
from slipstream.stores.admission_store import AdmissionQuery, AdmissionStore
from tests.conftest import OwnBroker, OwnRedis
from tests.integration.reading import read_until
from tests.integration.test_ingestion import AUTH, records, track
from tests.waiting import until


@pytest.fixture(autouse=True)
def patient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes a busy machine for no hanging Redis."""
    monkeypatch.setattr("slipstream.stores.admission_store.LIMIT_S", 30.0)


def app_of(kafka: KafkaSettings, redis: RedisSettings, namespace: str, **section: Any) -> FastAPI:
    return create_app(
        IngestionSettings(
            namespace=namespace,
            kafka=kafka,
            redis=redis,
            ingestion=IngestionSection(write_keys=SecretStr("shop:s3cret"), **section),
        )
    )


@contextmanager
def ingestion(
    kafka: KafkaSettings, redis: RedisSettings, namespace: str, **section: Any
) -> Iterator[TestClient]:
    with TestClient(app_of(kafka, redis, namespace, **section)) as client:
        yield client


def verdicts(answer: Any) -> list[str]:
    return [result["status"] for result in answer.json()["results"]]


def test_message_that_comes_again_is_a_duplicate_and_not_published(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    with ingestion(broker, redis_settings, namespace) as client:
        twice = client.post(
            "/v1/batch",
            json={"batch": [track("ada", "a", "m-0"), track("ada", "a", "m-0")]},
            auth=AUTH,
        )
        assert verdicts(twice) == ["accepted", "duplicate"]
        # The mark that it is done follows the answer a moment later.
        time.sleep(0.5)
        again = client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH).json()
        assert (again["accepted"], again["duplicates"], again["results"][0]["message_id"]) == (
            0,
            1,
            "m-0",
        )
        other = client.post(
            "/v1/batch",
            json={"batch": [track("ada", "a", "m-0"), track("bob", "b", "m-1")]},
            auth=AUTH,
        )
        assert verdicts(other) == ["duplicate", "accepted"]
        assert 'verdict="duplicate"} 3.0' in client.get("/metrics").text
    taken = [message.record for message in records(broker, namespace, INTERACTIONS, 2)]
    assert sorted((i.event_id, i.maybe_repeat) for i in taken) == [("m-0", False), ("m-1", False)]


def test_copies_that_come_at_the_same_time_are_all_but_one_marked(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    app = app_of(broker, redis_settings, namespace)

    async def send() -> list[str]:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://ingestion", auth=AUTH, timeout=30
            ) as client:
                calls = [
                    client.post("/v1/track", json=track("ada", "a", "same")) for _ in range(20)
                ]
                return [
                    status for answer in await asyncio.gather(*calls) for status in verdicts(answer)
                ]

    statuses = asyncio.run(send())
    assert set(statuses) <= {"accepted", "duplicate"}
    copies = [
        message.record
        for message in records(broker, namespace, INTERACTIONS, statuses.count("accepted"))
    ]
    assert [copy.maybe_repeat for copy in copies].count(False) == 1


async def test_message_whose_first_attempt_has_no_end_is_marked(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    # A killed replica leaves an id that was looked up and never acknowledged.
    store = AdmissionStore(redis_settings, namespace, window_ms=HOUR_MS)
    await store.judge([AdmissionQuery("shop", [store.message_key("shop", "", "m-0")], [None])])
    await store.aclose()

    def send() -> None:
        with ingestion(broker, redis_settings, namespace) as client:
            assert verdicts(client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH)) == [
                "accepted"
            ]

    await asyncio.to_thread(send)
    (message,) = await asyncio.to_thread(records, broker, namespace, INTERACTIONS, 1)
    assert message.record.maybe_repeat


@pytest.mark.servers("embedded")
def test_what_a_killed_broker_took_with_it_is_taken_again(
    own_broker: OwnBroker, redis_settings: RedisSettings, namespace: str
) -> None:
    """Only the embedded broker loses what it acknowledged.

    The first message after the restart is a repeat, so no failed send tells the producer of it.
    """
    kafka, server = own_broker()
    with ingestion(kafka, redis_settings, namespace) as client:
        assert verdicts(client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH)) == [
            "accepted"
        ]
        time.sleep(0.5)
        server.kill()
        server.start()
        ensure_topics(kafka, namespace)

        def taken() -> bool:
            answer = client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH)
            return answer.is_success and verdicts(answer) == ["accepted"]

        until(taken, "a lost message is called a duplicate")
    (message,) = records(kafka, namespace, INTERACTIONS, 1)
    assert (message.record.event_id, message.record.maybe_repeat) == ("m-0", True)


def test_redis_away_refuses_nothing_and_what_was_taken_is_known_afterwards(
    broker: KafkaSettings, own_redis: OwnRedis, namespace: str
) -> None:
    redis, server = own_redis()
    with ingestion(broker, redis, namespace) as client:
        server.kill()
        answer = client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH)
        assert verdicts(answer) == ["accepted"]
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"], ready.json()["down"]) == (
            200,
            "degraded",
            ["redis"],
        )
        server.start()
        until(
            lambda: client.get("/health/ready").json()["status"] == "ready",
            "Redis is not seen again",
        )
        until(
            lambda: (
                verdicts(client.post("/v1/track", json=track("ada", "a", "m-0"), auth=AUTH))
                == ["duplicate"]
            ),
            "messages accepted meanwhile were forgotten",
        )
        assert verdicts(client.post("/v1/track", json=track("ada", "a", "m-1"), auth=AUTH)) == [
            "accepted"
        ]

    def taken(batches: list[Batch]) -> dict[str, bool]:
        return {m.record.event_id: m.record.maybe_repeat for b in batches for m in b.messages}

    consumer = Consumer(broker, namespace, [INTERACTIONS], None)
    # Further copies of m-0 are accepted for as long as Redis is not asked again.
    batches = read_until(consumer, lambda read: len(taken(read)) == 2)
    consumer.close()
    # m-1 is new, but a Redis that has restarted may have forgotten it.
    assert taken(batches) == {"m-0": True, "m-1": True}
