"""The API in front of a producer that acknowledges everything, after encoding it as the real one does."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.ingestion.api import events, router
from services.ingestion.intake import Intake
from services.ingestion.publisher import Publisher
from services.ingestion.settings import IngestionSection, IngestionSettings
from services.ingestion.verdicts import Code
from services.ingestion.write_keys import WriteKeys
from slipstream.broker import codec
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Outgoing, Producer
from slipstream.chassis.app import create_service
from slipstream.contracts.events import DeadLetter, Interaction
from tests.unit.ingestion.test_segment import json_values, messages, track

AUTH = ("s3cret", "")


class Acknowledging:
    """Takes what is published; away, it acknowledges nothing."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.away = False

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise BrokerUnavailableError("gone")
        for record in records:
            assert codec.decode(record.topic, codec.encode(record.record)) == record.record
        self.published += records


@pytest.fixture(scope="module")
def producer() -> Acknowledging:
    return Acknowledging()


@pytest.fixture(scope="module")
def client(producer: Acknowledging) -> Iterator[TestClient]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        publisher = Publisher(cast(Producer, producer), app.state.metrics.registry)
        app.state.intake = Intake(settings.ingestion, keys, publisher)
        yield

    keys = WriteKeys("shop:s3cret")
    section = IngestionSection(
        write_keys=SecretStr("shop:s3cret"), max_batch_events=20, max_event_bytes=1_000, max_body_bytes=20_000
    )
    settings = IngestionSettings(ingestion=section)
    app = create_service("ingestion", settings, description="", lifespan=lifespan, routers=[router], token_protected=False)
    app.router.routes[:0] = events.routes
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def start_afresh(producer: Acknowledging) -> None:
    producer.published.clear()
    producer.away = False


def test_track_answers_with_a_verdict_and_publishes_under_the_visitor(client: TestClient, producer: Acknowledging) -> None:
    answer = client.post("/v1/track", json=track(), auth=AUTH, headers={"X-Request-Id": "rid-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 1, "duplicates": 0, "rejected": 0,
        "results": [{"index": 0, "message_id": "m-1", "status": "accepted"}],
    }  # fmt: skip
    (outgoing,) = producer.published
    assert (outgoing.topic.name, outgoing.key, outgoing.request_id) == ("interactions.v1", "ada", "rid-1")
    assert cast(Interaction, outgoing.record).source == "shop"


def test_bad_event_is_rejected_alone(client: TestClient, producer: Acknowledging) -> None:
    answer = client.post("/v1/batch", json={"batch": [track(), track(userId=None, messageId="m-2"), 7]}, auth=AUTH).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 2)
    assert [(r["index"], r["message_id"], r["status"], r.get("code"), r.get("field")) for r in answer["results"]] == [
        (0, "m-1", "accepted", None, None),
        (1, "m-2", "rejected", "missing_user", "userId"),
        (2, None, "rejected", "not_an_object", None),
    ]
    letters = [cast(DeadLetter, o.record) for o in producer.published if o.topic.name == "dead-letters.v1"]
    assert [(letter.code, letter.source, letter.original) for letter in letters] == [
        ("missing_user", "shop", track(userId=None, messageId="m-2")),
        ("not_an_object", "shop", 7),
    ]
    assert all(letter.reason and letter.request_id for letter in letters)


def test_write_key_in_the_body_counts_and_does_not_reach_the_dead_letters(client: TestClient, producer: Acknowledging) -> None:
    answer = client.post("/v1/track", json=track(userId=None, writeKey="s3cret"))
    assert (answer.status_code, answer.json()["rejected"]) == (200, 1)
    assert b"s3cret" not in codec.encode(producer.published[0].record)


@pytest.mark.parametrize("key", [None, "wrong", 7])
def test_wrong_write_key_is_refused(client: TestClient, producer: Acknowledging, key: Any) -> None:
    answer = client.post("/v1/track", json=track(writeKey=key))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_write_key")
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert not producer.published


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/track", b"{", 400, "invalid_json"),
        ("/v1/track", b"", 400, "invalid_json"),
        ("/v1/track", b"\xff", 400, "invalid_json"),
        ("/v1/track", b"[]", 400, "invalid_body"),
        ("/v1/batch", b"{}", 400, "invalid_body"),
        ("/v1/batch", b'{"batch": {}}', 400, "invalid_body"),
        ("/v1/items", b'{"items": 1}', 400, "invalid_body"),
        ("/v1/batch", b'{"batch": [%b]}' % b",".join([b"1"] * 21), 413, "too_large"),
        ("/v1/batch", b'{"batch": ["%b"]}' % (b"x" * 20_000), 413, "too_large"),
    ],
)
def test_body_that_can_t_be_read_is_a_problem(client: TestClient, path: str, body: bytes, status: int, code: str) -> None:
    answer = client.post(path, content=body, auth=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_event_above_the_limit_is_rejected_alone(client: TestClient) -> None:
    answer = client.post("/v1/batch", json={"batch": [track(), track(extra="x" * 1_000)]}, auth=AUTH).json()
    assert [r.get("code") for r in answer["results"]] == [None, "event_too_large"]


def test_broker_away_is_503_and_claims_nothing(client: TestClient, producer: Acknowledging) -> None:
    producer.away = True
    answer = client.post("/v1/batch", json={"batch": [track(), 7]}, auth=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "accepted" not in answer.json()


def test_items_and_users_are_upserted_and_items_deleted(client: TestClient, producer: Acknowledging) -> None:
    assert client.post("/v1/items", json={"items": [{"item_id": "a/b", "title": "A"}]}, auth=AUTH).json()["accepted"] == 1
    assert client.post("/v1/users", json={"users": [{"user_id": "ada"}]}, auth=AUTH).json()["accepted"] == 1
    assert client.delete("/v1/items/a%2Fb", auth=AUTH).json()["accepted"] == 1
    assert [(o.topic.name, o.key) for o in producer.published] == [
        ("catalog.v1", "item:a/b"),
        ("catalog.v1", "user:ada"),
        ("catalog.v1", "item:a/b"),
    ]


def test_verdicts_are_counted_by_source(client: TestClient) -> None:
    client.post("/v1/batch", json={"batch": [7]}, auth=AUTH)
    assert 'slipstream_ingestion_events_total{source="shop",verdict="not_an_object"}' in client.get("/metrics").text


def test_openapi_describes_bodies_and_verdicts(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/batch"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["batch"]["items"]["properties"]["messageId"]
    assert set(operation["responses"]) == {"200", "400", "401", "413", "503"}
    assert "$defs" not in str(document)
    assert document["components"]["schemas"]["Answer"]


bodies = st.one_of(
    json_values,
    messages,
    st.builds(lambda batch: {"batch": batch}, st.lists(messages | json_values, max_size=4)),
    st.builds(lambda items: {"items": items}, st.lists(json_values, max_size=4)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["track", "page", "identify", "batch", "items", "users"]), bodies)
def test_any_json_body_is_answered_and_every_rejection_explained(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(f"/v1/{path}", content=orjson.dumps(body), auth=AUTH)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["code"] == "invalid_body"
        return
    for result in answer.json()["results"]:
        assert result["status"] == "accepted" or (result["code"] in set(Code) and result["reason"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60) | st.sampled_from([b"[" * 2_000, b'{"batch":[' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"]}", b"1e999"])
)
def test_any_bytes_are_answered_without_a_failure(client: TestClient, body: bytes) -> None:
    assert client.post("/v1/batch", content=body, auth=AUTH).status_code in (200, 400)
