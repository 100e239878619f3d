"""The guard: token, size, hosts and origins are checked before a body is read."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slipstream.chassis.access.guard import KnownHosts
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


HOSTS = KnownHosts(["Recs.shop.example"])


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("127.0.0.1:8003", None, None),
        ("[::1]:8003", "http://[::1]:8003", None),
        ("localhost:8003", "http://localhost:8003", None),
        ("training:8003", None, None),
        ("recs.shop.example", "https://recs.shop.example", None),
        ("10.0.0.7:8003", "https://recs.shop.example", None),
        (None, None, None),
        ("evil.example:8003", "http://evil.example:8003", "foreign_host"),
        ("evil.example", None, "foreign_host"),
        ("", None, "foreign_host"),
        ("127.0.0.1:8003", "https://evil.example", "foreign_origin"),
        ("127.0.0.1:8003", "http://127.0.0.1:8000", "foreign_origin"),
        ("127.0.0.1:8003", "null", "foreign_origin"),
        (None, "https://evil.example", "foreign_origin"),
        ("127.0.0.1:8003", "http://[", "foreign_origin"),
    ],
)
def test_hosts_and_origins(host: str | None, origin: str | None, code: str | None) -> None:
    refusal = HOSTS.check(
        host.encode() if host is not None else None, origin.encode() if origin else None
    )
    assert (refusal.code if refusal else None) == code


def test_a_star_takes_any_name_and_page() -> None:
    assert KnownHosts(["*"]).check(b"a.example", b"https://b.example") is None


def refusals(settings: ServiceSettings, **headers: str) -> tuple[int, int]:
    """The statuses of a request that changes something, and of one that reads."""
    with TestClient(an_app(settings)) as client:
        changed = client.post("/body", json={"size": 1}, headers=headers)
        return changed.status_code, client.get("/echo", headers=headers).status_code


def test_a_service_that_asks_for_no_credentials_answers_no_stranger_s_page() -> None:
    settings = ServiceSettings()
    assert refusals(settings, Host="localhost") == (200, 200)
    assert refusals(settings, Host="evil.example") == (403, 403)
    assert refusals(settings, Host="localhost", Origin="https://evil.example") == (403, 403)


def test_a_service_with_credentials_checks_what_changes_something() -> None:
    settings = ServiceSettings(http={"api_token": "s3cret", "hosts": "recs.example"})  # type: ignore[arg-type]
    token = {"Authorization": "Bearer s3cret"}
    assert refusals(settings, Host="evil.example", **token) == (403, 200)
    assert refusals(settings, Origin="https://evil.example", **token) == (403, 200)
    assert refusals(settings, Host="recs.example", **token) == (200, 200)


def test_the_name_that_peers_call_a_service_by_is_known() -> None:
    settings = ServiceSettings(peers={"training_url": "http://training.prod.svc:8003"})  # type: ignore[arg-type]
    app = an_app(settings, name="training")
    with TestClient(app) as client:
        answer = client.post("/body", json={"size": 1}, headers={"Host": "training.prod.svc:8003"})
    assert answer.status_code == 200
