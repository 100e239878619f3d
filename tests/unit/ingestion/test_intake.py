"""Intake between its bodies: what it leaves in memory, and how long it keeps others waiting."""

import asyncio
import gc

import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from bench.load import basic_auth
from services.ingestion import intake as intake_module
from services.ingestion.app import create_app
from services.ingestion.erasures import ErasureCuts
from services.ingestion.intake import Intake, IntakeHeaders
from services.ingestion.outcomes import Rejection
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.segment import read_message
from slipstream.chassis.bodies import LARGE_BYTES
from slipstream.chassis.errors import TooManyRequestsError
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting, settings_with

EVENT = {
    "type": "track",
    "event": "Product Viewed",
    "userId": "ada",
    "properties": {"product_id": "i"},
}
HEADERS = IntakeHeaders(basic_auth(KEY)["Authorization"])


@pytest.fixture
def intake() -> Intake:
    settings = settings_with()
    state = create_app(settings).state
    producer = Acknowledging()
    publisher = OutcomePublisher(producer, CollectorRegistry())
    cuts = ErasureCuts(producer.ends)
    return Intake(settings.ingestion, state.verifier, publisher, state.rules, cuts)


@pytest.mark.parametrize(
    "body",
    [
        b'{"event": "x"}',
        b'{"event": "x", "userId": "ada", "properties": {"blob": "%s"}}' % (b"x" * 40_000),
    ],
)
async def test_a_rejected_message_is_forgotten_with_its_answer(intake: Intake, body: bytes) -> None:
    """Not only when the garbage collector finds it, which has much to do with large messages."""
    gc.collect()
    gc.disable()
    try:
        answer = await asyncio.create_task(intake.message(body, HEADERS, "track"))
        kept = [one for one in gc.get_objects() if type(one) is Rejection]
    finally:
        gc.enable()
    assert orjson.loads(answer)["results"][0]["status"] == "rejected"
    assert kept == []


async def test_a_large_batch_lets_others_have_their_turn(intake: Intake) -> None:
    body = orjson.dumps({"batch": [EVENT] * 2_500})
    task = asyncio.create_task(intake.batch(body, HEADERS))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(orjson.loads(task.result())["results"]) == 2_500
    assert turns > 4


def test_an_address_without_a_servers_key_waits_after_a_flood() -> None:
    limits = {"address_kib_per_s": 0.001, "address_burst_kib": 500}
    flood, page = b"x" * 400_000, SecretStr("pages:page")
    with collecting(Acknowledging(), browser_keys=page, **limits) as client:
        assert client.post("/v1/batch", content=flood, auth=("page", "")).status_code == 400
        assert client.post("/v1/track", json=EVENT, auth=("page", "")).json()["accepted"] == 1
        assert client.post("/v1/batch", content=flood).status_code == 400
        refused = client.post("/v1/track", json=EVENT, auth=("page", ""))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert client.get("/v1/pixel.gif", params={"data": "{}"}).status_code == 429
        assert client.post("/v1/track", json=EVENT, auth=AUTH).json()["accepted"] == 1


def test_a_page_sends_fewer_events_at_once_than_a_server() -> None:
    batch = {"batch": [EVENT] * 3}
    page = SecretStr("pages:page")
    with collecting(Acknowledging(), browser_keys=page, browser_max_batch_events=2) as client:
        assert client.post("/v1/batch", json=batch, auth=AUTH).json()["accepted"] == 3
        refused = client.post("/v1/batch", json=batch, auth=("page", ""))
    assert refused.status_code == 413
    assert "BROWSER_MAX_BATCH_EVENTS" in refused.json()["detail"]


def test_a_body_of_many_values_is_not_parsed() -> None:
    with collecting(Acknowledging()) as client:
        refused = client.post("/v1/track", content=b"[" + b"[]," * 70_000, auth=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_values")


async def test_large_bodies_take_turns_and_the_wait_is_no_time_of_an_event(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000
    monkeypatch.setattr(intake_module, "now_ms", lambda: now)
    body = orjson.dumps({"batch": [EVENT] * 500})
    assert len(body) > LARGE_BYTES
    read = list[int]()
    monkeypatch.setattr(
        intake_module,
        "read_message",
        lambda *arguments: read.append(arguments[3].received_at) or read_message(*arguments),
    )
    async with intake._large.turn(True):
        task = asyncio.create_task(intake.batch(body, HEADERS))
        small = orjson.loads(await intake.message(orjson.dumps(EVENT), HEADERS, "track"))
        assert (small["accepted"], len(read), task.done()) == (1, 1, False)
        now += 60_000
    assert orjson.loads(await task)["accepted"] == 500
    assert set(read) == {1_000_000}


async def test_bodies_that_wait_meet_the_budget_that_those_before_them_have_spent(
    intake: Intake,
) -> None:
    body = orjson.dumps({"batch": [EVENT] * 500})
    headers = IntakeHeaders(basic_auth("unknown")["Authorization"], address="192.0.2.7")
    async with intake._large.turn(True):
        task = asyncio.create_task(intake.batch(body, headers))
        await asyncio.sleep(0)
        intake.charge(headers, 2**30)
    with pytest.raises(TooManyRequestsError):
        await task
