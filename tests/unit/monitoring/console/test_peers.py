"""What is passed on to other services: what they demand, and what it may cost."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.monitoring.app import create_app
from services.monitoring.console import peers
from services.monitoring.console.peers import (
    MOST_AT_ONCE,
    MOST_BYTES,
    ROUTES,
    PeerClient,
    PeerRoute,
    PeerUnavailableError,
    path_of,
)
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.access.guard import demand_of, routes_of
from slipstream.contracts.access import Scope
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import app_of

ITEM = PeerRoute("features", "GET", "/v1/items/{item_id:path}")
URLS = {name: f"http://{name}:80" for name in SERVICES}
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> PeerClient:
    return PeerClient(URLS, lambda: "own", httpx.MockTransport(answer))


@pytest.fixture(scope="module")
def apps() -> dict[str, FastAPI]:
    return {service: app_of(service) for service in SERVICES}


@pytest.mark.parametrize("passed_on", ROUTES, ids=str)
def test_each_route_is_there_and_demands_what_the_service_does(
    passed_on: PeerRoute, apps: dict[str, FastAPI]
) -> None:
    """Monitoring's own token has the scope `read`, so it must open the route."""
    (demand,) = [
        demand_of(route)
        for route in routes_of(apps[passed_on.service])
        if route.path == passed_on.path and passed_on.method in (route.methods or ())
    ]
    assert demand.scope == Scope.READ and demand.is_met_by({Scope.READ})
    (own,) = [
        demand_of(route)
        for route in routes_of(apps["monitoring"])
        if route.path == f"/v1/peers/{passed_on.service}{passed_on.path}"
        and passed_on.method in (route.methods or ())
    ]
    assert own.scope == Scope.READ and own.also is None
    assert passed_on.service in SERVICES["monitoring"].peers


@pytest.mark.parametrize("passed_on", ROUTES, ids=str)
def test_no_id_leads_to_a_route_that_demands_more(
    passed_on: PeerRoute, apps: dict[str, FastAPI]
) -> None:
    """`GET /v1/users/{user_id:path}` is not passed on: `/v1/users/ada/export` is another route."""
    begin = passed_on.path.partition("{")[0]
    reached = [
        route.path
        for route in routes_of(apps[passed_on.service])
        if passed_on.method in (route.methods or ())
        and "{" in passed_on.path
        and route.path.startswith(begin)
        and not demand_of(route).is_met_by({Scope.READ})
    ]
    assert reached == []


@pytest.mark.parametrize(
    "value",
    ["a", "a/b", "..", ".", "../../v1/users/x", "a?b=c#d", "<script>", "%2e%2e", "שלום", "a" * 256],
)
async def test_an_id_stays_one_part_of_the_path_whatever_it_holds(value: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    await client(answer).ask(ITEM, {"item_id": value}, b"x=%20y", b"", "rid")
    (request,) = asked
    path, _, query = request.url.raw_path.partition(b"?")
    assert query == b"x=%20y"
    assert path.count(b"/") == 3 and path.startswith(b"/v1/items/")
    assert httpx.URL(f"http://x{path_of('/{a}', {'a': value})}").path == f"/{value}"
    assert request.headers["authorization"] == "Bearer own"
    assert request.headers["x-request-id"] == "rid"


async def test_an_answer_is_passed_on_with_its_status() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            429,
            content=b'{"code": "rate_limited"}',
            headers={
                "Content-Type": "application/problem+json; charset=utf-8",
                "Retry-After": "7",
                "Set-Cookie": "a=b",
            },
        )

    passed = await client(answer).ask(ITEM, {"item_id": "a"}, b"", b"", "")
    assert passed == (429, "application/problem+json", b'{"code": "rate_limited"}', "7")


def large(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json="x" * MOST_BYTES)


def gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (gone, "features does not answer: ConnectError"),
        (large, "ask for less"),
        (lambda _: httpx.Response(200, html="<p>"), "without JSON"),
        (lambda _: httpx.Response(401, json={}), "refuses monitoring's own token"),
        (lambda _: httpx.Response(403, json={}), "refuses monitoring's own token"),
    ],
)
async def test_a_service_that_gives_no_answer_to_pass_on_is_named(
    answer: Answer, reason: str
) -> None:
    with pytest.raises(PeerUnavailableError, match=reason):
        await client(answer).ask(ITEM, {"item_id": "a"}, b"", b"", "")


async def test_so_many_are_asked_at_once_and_nobody_waits_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "TIMEOUT_S", 0.2)
    asked, most = 0, 0

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            try:
                await asyncio.Event().wait()
            finally:
                asked -= 1
            raise AssertionError

    silent = PeerClient(URLS, str, Silent())
    calls = [silent.ask(ITEM, {"item_id": "a"}, b"", b"", "") for _ in range(MOST_AT_ONCE + 8)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(error) for error in ended} == {"features did not answer within 0.2 s"}
    assert (most, asked) == (MOST_AT_ONCE, 0)


async def test_a_body_that_never_ends_is_not_read_on() -> None:
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 65_536
                yield b" " * 65_536

    def answer(_request: httpx.Request) -> httpx.Response:
        kind = {"Content-Type": "application/json"}
        return httpx.Response(200, headers=kind, stream=Endless())

    with pytest.raises(PeerUnavailableError, match="ask for less"):
        await client(answer).ask(ITEM, {"item_id": "a"}, b"", b"", "")
    assert sent == MOST_BYTES + 65_536


def test_the_routes_need_their_scope_and_fail_alone() -> None:
    app = create_app(MonitoringSettings(http={"api_token": "s3cret"}))  # type: ignore[arg-type]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "serving":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"path": request.url.raw_path.decode()})

    app.state.peers = client(answer)
    asked = TestClient(app)
    assert asked.get("/v1/peers/features/v1/items/a").status_code == 401
    asked.headers["Authorization"] = "Bearer s3cret"
    found = asked.get("/v1/peers/features/v1/items/a%2Fb?fields=x")
    assert found.json() == {"path": "/v1/items/a%2Fb?fields=x"}
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["x-content-type-options"] == "nosniff"
    away = asked.get("/v1/peers/serving/v1/trending")
    assert (away.status_code, away.json()["code"]) == (503, "peer_unavailable")
    assert away.json()["detail"] == "serving does not answer: ConnectError"
    assert away.headers["retry-after"]
    for path in ("/v1/peers/features/v1/users/x/export", "/v1/peers/features/v1/slates"):
        assert asked.get(path).status_code == 404
    large = b'"' + b"x" * MOST_BYTES + b'"'
    refused = asked.post("/v1/peers/serving/v1/previews", content=large)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
