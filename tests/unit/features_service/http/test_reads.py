"""Reads in Feast's form are bounded, and large ones take turns."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from services.features.http import reads
from services.features.reads.feast import Planner
from services.features.settings import FeaturesSettings
from slipstream.chassis.access.verifier import ANYBODY
from slipstream.chassis.bodies import LARGE_BYTES, LargeRequests
from slipstream.chassis.errors import install_error_handlers
from slipstream.features.views import VISITOR, declare


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
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(reads.feast_router)
    app.add_middleware(Known)
    install_error_handlers(app, "features")
    registry = declare()
    app.state.parts = reads.Parts(
        settings=FeaturesSettings(), reader=Empty(), lake=None, materializer=None,
        registry=registry, planner=Planner(registry),
    )  # fmt: skip
    with TestClient(app) as made:
        yield made


def test_lists_of_entities_are_bounded(client: TestClient) -> None:
    entities = {f"e{number}": ["a"] for number in range(reads.MOST_ENTITIES + 1)}
    answer = client.post("/get-online-features", json={"entities": entities, "features": ["a:b"]})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "too_long")


def test_a_body_of_many_values_is_not_parsed(client: TestClient) -> None:
    body = b'{"entities": {"a": [%s]}}' % (b"{}," * reads.MOST_READ_VALUES)
    refused = client.post("/get-online-features", content=body)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_values")


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
