"""Requests that an instance hands on while it stands by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from slipstream.chassis import opening
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import StandbyError
from slipstream.chassis.settings import HttpSettings, ServiceSettings, TracingSettings
from slipstream.chassis.standby import Standby, own_address
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
    assert (ready.status_code, ready.json()) == (200, body | {"started_at": ANY})
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


class EndlessStream(httpx.AsyncByteStream):
    """Events without an end, or up to a failure."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.closed, self._failure = asyncio.Event(), failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed.set()


class Passing:
    """A stream that a standby passes on to a client, who may leave."""

    def __init__(self, stream: EndlessStream) -> None:
        self.standby, self.sent = Standby(), list[dict[str, Any]]()
        self._left = asyncio.Event()
        self._answer = httpx.Response(200, stream=stream)
        self.first = asyncio.Event()

    async def run(self) -> None:
        await self.standby.pass_stream(self._answer, self._receive, self._send)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        self.first.set()


async def test_a_stream_is_passed_on_until_its_client_leaves_or_the_standby_stops() -> None:
    for end in (Passing.leave, lambda it: it.standby.end_streams()):
        passing = Passing(EndlessStream())
        task = asyncio.create_task(passing.run())
        await passing.first.wait()
        assert not task.done()
        end(passing)
        await asyncio.wait_for(task, 30)
        assert [message["body"] for message in passing.sent] == [b"data: 1\n\n"]


async def test_a_stream_ends_with_the_instance_that_acts_and_its_client_comes_again() -> None:
    broken = Passing(EndlessStream(httpx.ReadError("it was killed")))
    await asyncio.wait_for(broken.run(), 30)
    failed = Passing(EndlessStream(ZeroDivisionError("a fault of ours")))
    with pytest.raises(ZeroDivisionError):
        await failed.run()


async def test_the_acting_instance_hears_that_the_client_of_a_stream_has_left() -> None:
    stream, left = EndlessStream(), asyncio.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)

    async with standing_by(httpx.MockTransport(answer)) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        sent = list[dict[str, Any]]()
        asked = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            left.set()

        scope = {
            "type": "http", "method": "GET", "path": "/v1/stream", "query_string": b"",
            "http_version": "1.1", "root_path": "", "scheme": "http", "headers": [],
        }  # fmt: skip
        await asyncio.wait_for(app(scope, receive, send), 30)
    assert stream.closed.is_set()
    assert sent[0]["status"] == 200


def test_streams_leave_connections_to_the_acting_instance_for_other_requests() -> None:
    pool = Standby().client._transport._pool  # type: ignore[attr-defined]
    assert pool._max_connections > HttpSettings().max_connections


def test_own_address_has_the_services_port_and_is_empty_where_none_is_advertised() -> None:
    assert own_address(HttpSettings(), 8005) == ""
    assert own_address(HttpSettings(advertised_host="10.0.0.2"), 8005) == "10.0.0.2:8005"
    assert own_address(HttpSettings(advertised_host="fd00::2", port=80), 8005) == "[fd00::2]:80"
