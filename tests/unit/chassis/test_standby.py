"""Requests that an instance hands on while it stands by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from slipstream.chassis import opening
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import StandbyError
from slipstream.chassis.settings import HttpSettings, ServiceSettings, TracingSettings
from slipstream.chassis.standby import own_address
from tests.spans import NOWHERE


class HeldError(StandbyError):
    dependency = "lease"
    address = "10.0.0.1:8005"


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "STANDBY_PAUSE_S", 60.0)


@asynccontextmanager
async def standing_by(
    transport: httpx.AsyncBaseTransport, tracing: TracingSettings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an instance that stands by; the one that acts is behind `transport`."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise HeldError("pod-1 acts")
        yield

    settings = ServiceSettings(
        http=HttpSettings(advertised_host="10.0.0.2"), tracing=tracing or TracingSettings()
    )
    app = create_service("probe", settings, description="", lifespan=lifespan, routers=[])
    app.state.standby._client = httpx.AsyncClient(transport=transport)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client,
    ):
        yield client


def acting() -> tuple[httpx.AsyncBaseTransport, list[dict[str, Any]]]:
    """An instance that acts, and the requests that it has heard."""
    app, heard = FastAPI(), list[dict[str, Any]]()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    @open_to_all
    async def any_path(request: Request) -> Response:
        heard.append(
            {
                "url": str(request.url),
                "raw_path": request.scope["raw_path"],
                "headers": dict(request.headers),
                "body": await request.body(),
            }
        )

        async def parts() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        return StreamingResponse(parts(), 207, {"X-Said": "yes", "X-Request-Id": "theirs"})

    return httpx.ASGITransport(app), heard


async def test_requests_are_answered_by_the_one_that_acts_whole_and_unchanged() -> None:
    transport, heard = acting()
    headers = {"Authorization": "Bearer k", "X-Request-Id": "mine", "Connection": "close"}
    async with standing_by(transport) as client:
        answer = await client.post("/v1/models/a%2Fb:promote?x=%20", content=b"{}", headers=headers)
    assert (answer.status_code, answer.text, answer.headers["x-said"]) == (207, "one two", "yes")
    assert answer.headers.get_list("x-request-id") == ["mine"]
    (request,) = heard
    assert request["raw_path"] == b"/v1/models/a%2Fb:promote"
    assert request["url"].endswith("?x=%20") and request["body"] == b"{}"
    assert request["headers"]["host"] == "shop"
    assert request["headers"]["authorization"] == "Bearer k"
    assert request["headers"]["x-request-id"] == "mine"
    assert request["headers"].get("connection") != "close"


async def test_the_one_that_acts_continues_the_trace() -> None:
    transport, heard = acting()
    place = f"00-{'a' * 32}-{'b' * 16}-01"
    traced = TracingSettings(otlp_url=NOWHERE, share=0)
    async with standing_by(transport) as client:
        await client.get("/v1/runs", headers={"traceparent": place})
    async with standing_by(transport, traced) as client:
        await client.get("/v1/runs", headers={"traceparent": place})
    without, with_span = (request["headers"]["traceparent"] for request in heard)
    assert without == place
    assert (with_span[:36], with_span[36:] != place[36:]) == (place[:36], True)


async def test_it_is_ready_and_answers_for_its_own_health() -> None:
    transport, heard = acting()
    async with standing_by(transport) as client:
        ready = await client.get("/health/ready")
        assert (await client.get("/metrics")).status_code == 200
    body = {"status": "standby", "down": [], "checks": {"lease": "ok"}}
    assert (ready.status_code, ready.json()) == (200, body)
    assert heard == []


async def test_a_request_is_handed_on_once() -> None:
    transport, heard = acting()
    async with standing_by(transport) as client:
        await client.get("/v1/runs")
        answer = await client.get("/v1/runs", headers=heard[0]["headers"])
    assert (answer.status_code, answer.json()["code"]) == (503, "standby")
    assert len(heard) == 1


async def test_one_that_acts_and_does_not_answer_is_told() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with standing_by(httpx.MockTransport(refuse)) as client:
        answer = await client.get("/v1/runs")
    assert (answer.status_code, answer.json()["code"]) == (503, "standby")
    assert answer.headers["retry-after"] == "5"
    assert "10.0.0.1:8005 does not answer" in answer.json()["detail"]


def test_own_address_has_the_services_port_and_is_empty_where_none_is_advertised() -> None:
    assert own_address(HttpSettings(), 8005) == ""
    assert own_address(HttpSettings(advertised_host="10.0.0.2"), 8005) == "10.0.0.2:8005"
    assert own_address(HttpSettings(advertised_host="fd00::2", port=80), 8005) == "[fd00::2]:80"
