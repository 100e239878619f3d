"""The push route applies the settings of the service to every row."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from services.features.http import reads
from services.features.http import writes as writes_api
from services.features.reads.feast import Planner
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.access.verifier import ANYBODY
from slipstream.chassis.bodies import LARGE_BYTES, LargeRequests
from slipstream.chassis.errors import install_error_handlers
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.features.views import VISITOR, declare
from slipstream.ingress.settings import PrivacySettings

SETTINGS = FeaturesSettings(
    privacy=PrivacySettings(drop_fields="phone", hash_fields="email", hash_key=SecretStr("pepper")),
    features=FeaturesSection(max_ahead_hours=1),
)


class Producer:
    """A producer that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[OutgoingRecord] = []
        self.calls = 0

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.published += records
        self.calls += 1


class Empty:
    """A store that has nothing."""

    async def states(self, users: Sequence[str], items: Sequence[str]) -> Any:
        return [None] * len(users), [None] * len(items)


class Known:
    """A guard that knows everyone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["slipstream.principal"] = ANYBODY
        await self._app(scope, receive, send)


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def client(producer: Producer) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(reads.feast_router)
    app.include_router(writes_api.router)
    app.add_middleware(Known)
    install_error_handlers(app, "features")
    registry = declare()
    # A push reads neither the stores nor the stream.
    app.state.parts = reads.Parts(
        settings=SETTINGS, reader=Empty(), lake=None, materializer=None, producer=producer,
        registry=registry, planner=Planner(registry),
    )  # fmt: skip
    with TestClient(app) as made:
        yield made


def push(client: TestClient, **columns: list[Any]) -> Any:
    return client.post("/push", json={"push_source_name": "interactions", "df": columns})


def test_privacy_settings_hold_for_pushed_rows(client: TestClient, producer: Producer) -> None:
    answer = push(
        client, user_id=["u"], event_type=["view"], phone=["0800"], email=["a@example.org"]
    )
    assert answer.status_code == 200
    (outgoing,) = producer.published
    properties = outgoing.record.properties  # type: ignore[union-attr]
    assert properties == SETTINGS.privacy.policy().published({"email": "a@example.org"})
    assert len(properties["email"]) == 64


def test_the_setting_limits_how_far_ahead_a_row_may_be(
    client: TestClient, producer: Producer
) -> None:
    answer = push(client, user_id=["u"], event_type=["view"], timestamp=[now_ms() + 2 * HOUR_MS])
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "timestamp_in_future")
    assert not producer.published


def test_lists_of_entities_and_columns_are_bounded(client: TestClient, producer: Producer) -> None:
    pushed = push(client, **{f"c{number}": [1] for number in range(reads.MOST_COLUMNS + 1)})
    entities = {f"e{number}": ["a"] for number in range(reads.MOST_ENTITIES + 1)}
    read = client.post("/get-online-features", json={"entities": entities, "features": ["a:b"]})
    for answer in (pushed, read):
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "too_long")
    assert not producer.published


def test_a_body_of_many_values_is_not_parsed(client: TestClient) -> None:
    body = b'{"df": {"a": [%s]}}' % (b"{}," * reads.MOST_PUSH_VALUES)
    refused = client.post("/push", content=body)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_values")


def test_a_large_push_reaches_the_broker_in_parts(client: TestClient, producer: Producer) -> None:
    rows = [f"u{number}" for number in range(1_200)]
    assert push(client, user_id=rows, event_type=["view"] * 1_200).status_code == 200
    assert [record.key for record in producer.published] == rows
    assert producer.calls == 3


def write(client: TestClient, view: str, **columns: list[Any]) -> Any:
    body = {"feature_view_name": view, "df": columns, "allow_registry_cache": False}
    return client.post("/write-to-online-store", json=body)


def test_a_write_that_is_sent_again_makes_the_same_events(
    client: TestClient, producer: Producer
) -> None:
    rows: dict[str, list[Any]] = {
        "user_id": ["u", "u", "u"], "event_type": ["view", "view", "view"],
        "item_id": ["a", "b", "a"], "size": [9, None, 2.5],
        "event_timestamp": ["2026-11-24T12:00:00"] * 3, "event_id": [None, "mine", None],
    }  # fmt: skip
    for _ in range(2):
        assert write(client, "interactions", **rows, created=["2026-11-24"] * 3).status_code == 200
    first, second = producer.published[:3], producer.published[3:]
    ids = [outgoing.record.event_id for outgoing in first]  # type: ignore[union-attr]
    assert ids == [outgoing.record.event_id for outgoing in second]  # type: ignore[union-attr]
    assert (len(set(ids)), ids[1]) == (3, "mine")
    assert all(outgoing.record.maybe_repeat for outgoing in first)  # type: ignore[union-attr]
    assert first[0].record.properties == {"size": 9}  # type: ignore[union-attr]


def test_an_event_without_a_time_is_another_one_each_time(
    client: TestClient, producer: Producer
) -> None:
    for _ in range(2):
        assert write(client, "interactions", user_id=["u"], event_type=["view"]).status_code == 200
    one, other = (outgoing.record for outgoing in producer.published)
    assert one.event_id != other.event_id  # type: ignore[union-attr]


def test_writes_to_other_views_are_refused_with_the_reason(
    client: TestClient, producer: Producer
) -> None:
    computed = write(client, "visitor", user_id=["u"], views=[3])
    assert (computed.status_code, computed.json()["code"]) == (400, "computed_view")
    assert "interactions, items, users" in computed.json()["detail"]
    unknown = write(client, "shop", user_id=["u"])
    told = json.loads(unknown.json())
    assert (unknown.status_code, told["class"]) == (404, "FeatureViewNotFoundException")
    bad = write(client, "interactions", user_id=["u"])
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "df.event_type.0")
    assert not producer.published


@pytest.mark.parametrize("path", ["/materialize", "/materialize-incremental"])
def test_nothing_is_materialized(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"end_ts": "2026-11-24T12:00:00"})
    assert (answer.status_code, answer.json()["code"]) == (400, "nothing_to_materialize")
    assert "slipstream backfill" in answer.json()["detail"]


NAMES = [f"u{number}".ljust(80) for number in range(900)]
LARGE_READ = {
    "entities": {"user_id": NAMES},
    "features": [f"visitor:{name}" for name in VISITOR.feature_names[:10]],
}
# Few bytes, and many values in the answer.
WIDE_READ = LARGE_READ | {"entities": {"user_id": [name.strip() for name in NAMES]}}
SMALL_READ = LARGE_READ | {"entities": {"user_id": NAMES[:1]}}


@asynccontextmanager
async def asking(client: TestClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(client.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://features") as made:
        yield made


async def test_large_reads_wait_for_no_push_that_waits_for_the_broker(
    client: TestClient, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, acknowledged = asyncio.Event(), asyncio.Event()

    async def publish(_records: Sequence[OutgoingRecord]) -> None:
        taken.set()
        await acknowledged.wait()

    monkeypatch.setattr(producer, "publish", publish)
    frame = {"user_id": NAMES, "event_type": ["view"] * len(NAMES)}
    async with asking(client) as http:
        body = {"push_source_name": "interactions", "df": frame}
        pushing = asyncio.create_task(http.post("/push", json=body))
        await taken.wait()
        for read in (LARGE_READ, WIDE_READ):
            asked = http.post("/get-online-features", json=read)
            assert (await asyncio.wait_for(asked, 10)).status_code == 200
        assert not pushing.done()
        acknowledged.set()
        assert (await pushing).status_code == 200


@pytest.mark.parametrize("read", [LARGE_READ, WIDE_READ], ids=["bytes", "values"])
async def test_a_large_read_waits_for_its_turn_and_a_small_one_does_not(
    client: TestClient, read: dict[str, Any]
) -> None:
    assert len(str(WIDE_READ)) < LARGE_BYTES < len(str(LARGE_READ))
    turns: LargeRequests = client.app.state.parts.reads  # type: ignore[attr-defined]
    async with asking(client) as http:
        async with turns.turn(True):
            waiting = asyncio.create_task(http.post("/get-online-features", json=read))
            small = await http.post("/get-online-features", json=SMALL_READ)
            assert small.status_code == 200
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert (await asyncio.wait_for(waiting, 10)).status_code == 200
