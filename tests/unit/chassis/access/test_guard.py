"""The guard: token and size are checked before a body is read."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app

TOKEN = {"Authorization": "Bearer s3cret"}
JSON = {"Content-Type": "application/json"}


def guarded(asked: str = "s3cret") -> FastAPI:
    return an_app(ServiceSettings(http={"api_token": asked, "max_body_bytes": 1_024}))  # type: ignore[arg-type]


async def test_without_the_token_no_byte_of_the_body_is_read() -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b'{"size": 1}'

    app = guarded()
    async with httpx.AsyncClient(transport=Unread(app), base_url="http://probe") as client:
        refused = await client.post("/body", content=body())
    assert (refused.status_code, refused.json()["code"], read) == (401, "unauthorized", 0)


class Unread(httpx.AsyncBaseTransport):
    """Sends a request to the app, and its body only as far as the app reads it."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scope = {
            "type": "http", "method": request.method, "path": request.url.path,
            "query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }  # fmt: skip
        body = request.stream.__aiter__()  # type: ignore[union-attr]
        sent: list[dict] = []

        async def receive() -> dict:
            try:
                return {"type": "http.request", "body": await anext(body), "more_body": True}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.app(scope, receive, send)  # type: ignore[arg-type]
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret2", "Bearer ünïcode"],
)
def test_a_wrong_token_is_refused(authorization: str) -> None:
    with TestClient(guarded()) as client:
        answer = client.post(
            "/body", json={"size": 1}, headers={"Authorization": authorization.encode()}
        )
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_health_metrics_and_what_is_not_there_need_no_token() -> None:
    with TestClient(guarded()) as client:
        assert client.get("/health/live").status_code == client.get("/metrics").status_code == 200
        assert client.get("/nowhere").status_code == 404
        assert client.put("/body").status_code == 401


def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    with TestClient(guarded()) as client:
        answer = client.post("/body", content=b" " * 1_025, headers=TOKEN)
        exact = client.post("/body", content=b'{"size": 1}'.ljust(1_024), headers=TOKEN | JSON)
    assert (answer.status_code, answer.json()["code"], answer.headers["connection"]) == (
        413,
        "too_large",
        "close",
    )
    assert exact.status_code == 200


async def test_a_body_of_unknown_length_is_read_until_it_is_too_large() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 100

    async with httpx.AsyncClient(transport=Unread(guarded("")), base_url="http://probe") as client:
        answer = await client.post("/body", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert read == 11


def test_a_short_body_of_unknown_length_is_taken() -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"size"'
        yield b": 3}"

    with TestClient(guarded("")) as client:
        assert client.post("/body", content=chunks(), headers=JSON).json() == {"size": 3}


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "0" * 20 + "9999"])
async def test_a_length_that_is_no_length_is_refused(length: str) -> None:
    async with httpx.AsyncClient(transport=Unread(guarded("")), base_url="http://probe") as client:
        answer = await client.post("/body", content=b"", headers={"Content-Length": length})
    assert answer.status_code == 413


async def test_a_body_past_its_announced_length_is_not_read() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    async with httpx.AsyncClient(transport=Unread(guarded("")), base_url="http://probe") as client:
        short = await client.post("/body", content=b"", headers={"Content-Length": "0" * 30 + "5"})
        long = await client.post("/body", content=chunks(), headers={"Content-Length": "5"})
    assert (short.status_code, long.status_code) == (422, 413)
