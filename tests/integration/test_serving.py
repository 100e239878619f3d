"""Serving on a real broker, a real Valkey and a training service that answers over HTTP."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from services.serving.app import create_app
from services.serving.settings import ServingSection, ServingSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import HttpSettings, KafkaSettings, PeerSettings, RedisSettings
from slipstream.contracts.events import Interaction, ModelEvent, ModelEventType, Slate
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.topics import CATALOG, MODEL_EVENTS, RECOMMENDATIONS
from slipstream.recommender.bundle import Bundle
from slipstream.stores.online import OnlineStore
from tests import waiting
from tests.conftest import OwnBroker, OwnRedis
from tests.unit.serving.fakes import item_record, small_bundle
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import until


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The app on a free port, served from a thread."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with waiting.running(server):
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def training(tmp_path: Path, bundle: Bundle) -> TrainingStub:
    stub = TrainingStub(tmp_path / "training")
    stub.publish(bundle, "1")
    return stub


@pytest.fixture
def training_url(training: TrainingStub) -> Iterator[str]:
    with running(training.app()) as url:
        yield url


Serve = Callable[[KafkaSettings, RedisSettings], Any]


@pytest.fixture
def serving(training_url: str, tmp_path: Path, namespace: str) -> Serve:
    """`with serving(kafka, redis) as client:` runs the service. Only an event makes it look for
    another champion.
    """

    @contextmanager
    def start(kafka: KafkaSettings, redis: RedisSettings) -> Iterator[httpx.Client]:
        settings = ServingSettings(
            namespace=namespace,
            kafka=kafka,
            redis=redis,
            http=HttpSettings(port=0),
            peers=PeerSettings(training_url=training_url),
            # A busy machine is no store that does not answer.
            serving=ServingSection(
                cache_dir=tmp_path / "cache", champion_poll_s=600, redis_timeout_s=10
            ),
        )
        with running(create_app(settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
            until(lambda: client.get("/health/ready").status_code == 200)
            until(lambda: client.get("/v1/model").status_code == 200)
            yield client

    return start


def remember(redis: RedisSettings, namespace: str, visitor: str, *item_ids: str) -> None:
    """What the features service would have stored of these views."""
    store = OnlineStore(redis, namespace)
    now = int(time.time() * 1000)
    views = [
        Interaction(
            event_id=f"{visitor}-{at}",
            event_type="view",
            user_id=visitor,
            item_id=item_id,
            timestamp=now + at,
            received_at=now,
        )
        for at, item_id in enumerate(item_ids)
    ]
    store.apply([StreamInteraction(f"{visitor}:0", at, view) for at, view in enumerate(views)])
    store.close()


def publish(kafka: KafkaSettings, namespace: str, *records: OutgoingRecord) -> None:
    ensure_topics(kafka, namespace)
    producer = Producer(kafka, namespace)
    asyncio.run(producer.publish(records))
    producer.close()


def slates(kafka: KafkaSettings, namespace: str, count: int) -> list[Slate]:
    consumer = Consumer(kafka, namespace, [RECOMMENDATIONS], None)
    found: list[Slate] = []

    def read() -> bool:
        found.extend(message.record for message in consumer.poll(0.5).messages)
        return len(found) >= count

    until(read)
    consumer.close()
    return found


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def test_known_visitor_is_recommended_by_the_model_and_the_slate_is_on_the_topic(
    broker: KafkaSettings, redis_settings: RedisSettings, serving: Serve, namespace: str
) -> None:
    remember(redis_settings, namespace, "ada", "item-03", "item-04", "item-05")
    with serving(broker, redis_settings) as client:
        response = client.get(
            "/v1/recommendations/ada",
            params={"n": 3},
            headers={"X-Request-Id": "r-7"},
        )
    body = response.json()
    assert (body["answered_by"], body["model_version"], body["history_length"]) == ("model", "1", 3)
    assert ids(response)[0] == "item-06"
    (slate,) = slates(broker, namespace, 1)
    assert (slate.recommendation_id, slate.user_id) == (body["recommendation_id"], "ada")
    assert [item.item_id for item in slate.items] == ids(response)
    assert slate.features["history_length"] == 3


def test_promotion_swaps_the_model_under_load_without_a_failed_request(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    serving: Serve,
    namespace: str,
    training: TrainingStub,
) -> None:
    remember(redis_settings, namespace, "ada", "item-03")
    with serving(broker, redis_settings) as client:
        training.publish(small_bundle("2"), "2")
        promoted = ModelEvent(
            event=ModelEventType.PROMOTED, version="2", alias="champion", previous="1", timestamp=1
        )
        answered: list[tuple[int, str]] = []

        def ask() -> bool:
            response = client.get("/v1/recommendations/ada")
            answered.append((response.status_code, response.json()["model_version"]))
            return answered[-1][1] == "2"

        ask()
        publish(broker, namespace, OutgoingRecord(MODEL_EVENTS, promoted.model, promoted))
        until(ask)
        assert client.get("/v1/model").json()["previous"] == "1"
    assert {status for status, _ in answered} == {200}
    assert answered[0] == (200, "1")


def test_catalogue_comes_from_the_store_and_from_the_topic(
    broker: KafkaSettings, redis_settings: RedisSettings, serving: Serve, namespace: str
) -> None:
    remember(redis_settings, namespace, "ada", "item-03", "item-04", "item-05")
    store = OnlineStore(redis_settings, namespace)
    store.put_catalog([item_record("item-06", attributes={"title": "Six"})])
    with serving(broker, redis_settings) as client:

        def first() -> dict[str, Any]:
            item: dict[str, Any] = client.get("/v1/recommendations/ada?n=1&attributes=true").json()[
                "items"
            ][0]
            return item

        until(lambda: first()["attributes"] == {"title": "Six"})
        sold_out = item_record("item-06", timestamp=2, available=False).record
        publish(broker, namespace, OutgoingRecord(CATALOG, "item:item-06", sold_out))
        until(lambda: first()["item_id"] != "item-06")


def test_redis_killed_and_back(
    serving: Serve, own_redis: OwnRedis, broker: KafkaSettings, namespace: str
) -> None:
    redis, server = own_redis()
    remember(redis, namespace, "ada", "item-03", "item-04")
    with serving(broker, redis) as client:
        assert client.get("/v1/recommendations/ada").json()["answered_by"] == "model"
        server.kill()
        answer = client.get("/v1/recommendations/ada?n=5").json()
        assert (answer["answered_by"], len(answer["items"])) == ("trending", 5)
        assert "the online store does not answer" in answer["reason"]
        # Verdicts are given again for a moment.
        until(lambda: client.get("/health/ready").json()["down"] == ["redis"])
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        server.start()
        until(lambda: client.get("/v1/recommendations/ada").json()["answered_by"] == "model")


def test_broker_killed_does_not_fail_recommendations(
    serving: Serve, own_broker: OwnBroker, redis_settings: RedisSettings, namespace: str
) -> None:
    kafka, server = own_broker()
    kafka = kafka.model_copy(update={"delivery_timeout_ms": 1_000})
    remember(redis_settings, namespace, "ada", "item-03")
    with serving(kafka, redis_settings) as client:
        server.kill()
        for _ in range(20):
            assert client.get("/v1/recommendations/ada").json()["answered_by"] == "model"
        until(lambda: "slipstream_slate_failures_total 0.0" not in client.get("/metrics").text)


def test_every_route_on_the_wire(
    broker: KafkaSettings, redis_settings: RedisSettings, serving: Serve, namespace: str
) -> None:
    remember(redis_settings, namespace, "a/b ü", "item-03", "item-04")
    store = OnlineStore(redis_settings, namespace)
    # Of an item that changed, the first record counts.
    store.put_catalog([item_record("item-09", timestamp=5), item_record("item-09", timestamp=8)])
    store.put_catalog([item_record("item-08", timestamp=7)])
    store.close()
    with serving(broker, redis_settings) as client:
        assert client.get("/v1/recommendations/a%2Fb%20%C3%BC").json()["answered_by"] == "model"
        assert ids(client.get("/v1/trending?n=2")) == ["item-04", "item-03"]
        assert len(ids(client.get("/v1/similar/item-03?n=4&exclude=item-04"))) == 4
        for path, step, found in (
            ("popular?window=hour&n=2", "popular", ["item-04", "item-03"]),
            ("new", "new", ["item-08", "item-09"]),
            ("recently-viewed/a%2Fb%20%C3%BC", "recent", ["item-04", "item-03"]),
            ("bought-together/item-03?n=1", "similar", ["item-04"]),
        ):
            answer = client.get(f"/v1/{path}")
            assert (answer.json()["answered_by"], ids(answer)) == (step, found), path
        batch = client.post("/v1/recommendations:batch", json={"user_ids": ["a/b ü"] * 70, "n": 2})
        assert {
            tuple(item["item_id"] for item in one["items"]) for one in batch.json()["lists"]
        } == {tuple(ids(client.get("/v1/recommendations/a%2Fb%20%C3%BC?n=2")))}
        unknown = client.get("/v1/similar/nothing")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "item_not_found")
        session = {
            "events": [{"item_id": "item-24"}, {"item_id": "item-25", "event_type": "cart"}],
            "n": 1,
        }
        assert ids(client.post("/v1/sessions:recommend", json=session)) == ["item-26"]
        ranked = client.post("/v1/rank", json={"user_id": "a/b ü", "items": ["item-33", "item-05"]})
        assert ids(ranked) == ["item-05", "item-33"]
        audience = client.get("/v1/users-for-item/item-05").json()
        assert [(user["user_id"], user["place"]) for user in audience["users"]] == [("a/b ü", 1)]
        too_many = client.get("/v1/recommendations/ada?n=101")
        assert (too_many.status_code, too_many.headers["content-type"]) == (
            422,
            "application/problem+json",
        )
        assert client.get(f"/v1/recommendations/{'x' * 257}").status_code == 422
        exported = [
            f'slipstream_consumer_lag_records{{topic="{topic.name}"}} 0.0'
            for topic in (CATALOG, MODEL_EVENTS)
        ]
        until(lambda: all(line in client.get("/metrics").text for line in exported))


def test_open_inference_protocol_on_the_wire(
    broker: KafkaSettings, redis_settings: RedisSettings, serving: Serve, namespace: str
) -> None:
    remember(redis_settings, namespace, "ada", "item-03", "item-04")
    with serving(broker, redis_settings) as client:
        assert client.get("/v2").json()["name"] == "slipstream-serving"
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2/models/recommender").json()["versions"] == ["1"]
        assert client.get("/v2/models/recommender/versions/1/ready").json() == {
            "name": "recommender",
            "ready": True,
        }
        assert client.get("/v2/models/recommender/versions/9/ready").status_code == 503
        tensor = {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["ada", "nobody"]}
        body = {"id": "42", "inputs": [tensor], "parameters": {"n": 2}}
        answer = client.post("/v2/models/recommender/infer", json=body).json()
        assert (answer["id"], answer["model_version"]) == ("42", "1")
        assert answer["parameters"]["answered_by"] == "model,trending"
        items, scores = answer["outputs"]
        assert (items["shape"], items["data"][0]) == ([2, 2], "item-05")
        assert len(scores["data"]) == 4
        refused = client.post("/v2/models/recommender/infer", json={"inputs": []})
        assert refused.status_code == 400
        assert set(refused.json()) == {"error"}
