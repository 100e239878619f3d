"""Intake between its bodies: what it leaves in memory, and how long it keeps others waiting."""

import asyncio
import gc

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.ingestion.app import create_app
from services.ingestion.erasure_cuts import ErasureCuts
from services.ingestion.intake import SLICE, Intake, IntakeHeaders
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.verdicts import Rejection
from slipstream_cli.benchmarks.load import basic_auth
from tests.unit.ingestion.collector import KEY, Acknowledging, settings_with

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
    event = {"type": "track", "event": "Product Viewed", "userId": "ada"}
    body = orjson.dumps({"batch": [event | {"properties": {"product_id": "i"}}] * 2_500})
    task = asyncio.create_task(intake.batch(body, HEADERS))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(orjson.loads(task.result())["results"]) == 2_500
    assert turns > 2_500 / SLICE
