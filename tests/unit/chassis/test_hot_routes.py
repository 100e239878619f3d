"""A hot route answers as FastAPI does: every request goes to a server with a table of hot routes,
and to one without.
"""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from slipstream.chassis.access.guard import requires
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.errors import NotFoundError
from slipstream.chassis.hot_routes import HotRoute
from slipstream.chassis.server import server_config
from slipstream.chassis.settings import HttpSettings, ServiceSettings
from slipstream.contracts.access import Scope
from slipstream.contracts.events import Id
from slipstream_cli.local.processes import free_port
from tests.waiting import running


class Slice(BaseModel):
    n: int = Field(10, ge=1, le=100)
    deep: bool = False
    exclude: list[Id] = Field(default_factory=list, max_length=3)
    place: str | None = Field(None, max_length=5)


class Basket(BaseModel):
    items: list[Id] = Field(min_length=1)
    price: float | None = None


def an_app(kind: type[APIRoute], settings: ServiceSettings | None = None) -> FastAPI:
    router = APIRouter(prefix="/v1", route_class=kind, default_response_class=Response)

    def said(value: Any) -> Response:
        return Response(repr(value), media_type="text/plain")

    @router.get("/shelf/{name:path}")
    @requires(Scope.READ)
    async def shelf(
        request: Request, name: Annotated[Id, Path()], query: Annotated[Slice, Query()]
    ) -> Response:
        if name == "missing":
            raise NotFoundError("no such shelf", code="no_shelf")
        if name == "away":
            raise DependencyUnavailableError("it rains")
        if name == "broken":
            raise RuntimeError("dropped")
        if name == "torn":
            return Response("x", headers={"x-line": "a\nb"})
        if name.startswith("slow"):
            await asyncio.sleep(0.05 if name == "slow" else 1.0)
        if name == "client":
            return said((request.client and request.client.host, request.url.scheme))
        return said((name, query, request.scope["path_params"]))

    @router.post("/baskets")
    @requires(Scope.READ)
    async def baskets(body: Basket) -> Response:
        return said(body)

    @router.get("/baskets")
    @requires(Scope.ADMIN)
    async def all_baskets(request: Request) -> Response:
        return said(request.scope["route"].path)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_service(
        "probe",
        settings or ServiceSettings(http=HttpSettings(max_body_bytes=1_024)),
        description="",
        lifespan=lifespan,
        routers=[router],
    )
    app.add_middleware(Pages, **PAGES)
    app.state.hot_routes.pass_through(Pages, **PAGES)
    return app


class Pages(CORSMiddleware):
    """Headers for pages of other origins, and none for others."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        of_page = any(name == b"origin" for name, _ in scope.get("headers", ()))
        await (super().__call__ if of_page else self.app)(scope, receive, send)


PAGES: dict[str, Any] = {"allow_origins": ["https://shop.example"], "expose_headers": ["X-A"]}


@contextmanager
def served(kind: type[APIRoute], **http: Any) -> Iterator[tuple[httpx.Client, uvicorn.Server]]:
    """A server of the app, and a client of it."""
    port = free_port()
    limits: dict[str, Any] = {"max_body_bytes": 1_024, "shutdown_grace_s": 0, "drain_s": 0, **http}
    settings = ServiceSettings(http=HttpSettings(port=port, **limits))
    server = uvicorn.Server(server_config(an_app(kind, settings), settings, "ingestion"))
    with (
        running(server),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        yield client, server


@pytest.fixture(scope="module")
def direct() -> Iterator[httpx.Client]:
    with served(HotRoute) as (client, _):
        yield client


@pytest.fixture(scope="module")
def usual() -> Iterator[httpx.Client]:
    with served(APIRoute) as (client, _):
        yield client


def outcome(client: httpx.Client, method: str, path: str, **options: Any) -> tuple[Any, ...]:
    headers = {"x-request-id": "r-1", **options.pop("headers", {})}
    try:
        answer = client.request(method, path, headers=headers, **options)
    except httpx.RemoteProtocolError as error:
        return (str(error),)
    own = f":{client.base_url.port}".encode()
    kept = [
        (name, value.replace(own, b":port"))
        for name, value in answer.headers.raw
        if name != b"date"
    ]
    return answer.status_code, answer.text, kept


PATHS = (
    "/v1/shelf/a",
    "/v1/shelf/a%2Fb%20%C3%BC/c",
    "/v1/shelf/",
    "/v1/shelf/line%0Abreak",
    "/v1/shelf/" + "x" * 300,
    "/v1/shelf/missing",
    "/v1/shelf/away",
    "/v1/shelf/broken",
    "/v1/shelf/torn",
    "/v1/shelf/client",
    "/v1/shelf",
    "/v1/baskets",
    "/v1/baskets/",
    "/v1/nothing",
)
QUERIES = (
    "",
    "n=5",
    "n=5&n=6",
    "n=0",
    "n=",
    "n=1.0&deep=yes",
    "deep=perhaps&n=x",
    "exclude=a&exclude=b",
    "exclude=a&exclude=b&exclude=c&exclude=d",
    "exclude=",
    "exclude",
    "place=caf%C3%A9&unknown=1",
    "plcae=a&n=5",
    "n=5&utm_source=mail&_=1",
    "place=toolong",
    "n=%zz&&=;",
    "place=%ff",
    "n=7&place=" + "y" * 200,
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_every_path_and_method_is_answered_as_by_fastapi(
    direct: httpx.Client, usual: httpx.Client, method: str, path: str
) -> None:
    assert outcome(direct, method, path) == outcome(usual, method, path)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_answered_as_by_fastapi(
    direct: httpx.Client, usual: httpx.Client, query: str
) -> None:
    for _ in range(2):  # the second time, what was read is remembered
        path = f"/v1/shelf/a?{query}"
        assert outcome(direct, "GET", path) == outcome(usual, "GET", path)


def test_unknown_parameters_are_refused_and_those_of_campaigns_ignored(
    direct: httpx.Client,
) -> None:
    unknown = direct.get("/v1/shelf/a?plcae=a&N=5")
    assert unknown.status_code == 422
    assert [tuple(error.values()) for error in unknown.json()["errors"]] == [
        ("query.plcae", "unknown parameter; did you mean place?", "unknown_name"),
        ("query.N", "unknown parameter; did you mean n?", "unknown_name"),
    ]
    assert direct.post("/v1/baskets?n=5", json={"items": ["a"]}).status_code == 422
    assert "n=5" in direct.get("/v1/shelf/a?n=5&utm_source=mail&_=1").text


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["n", "deep", "exclude", "place", "other"]), st.text())))
def test_any_query_is_answered_as_by_fastapi(
    direct: httpx.Client, usual: httpx.Client, query: list[tuple[str, str]]
) -> None:
    options: dict[str, Any] = {"params": [(name, value.encode()) for name, value in query]}
    assert outcome(direct, "GET", "/v1/shelf/a", **dict(options)) == outcome(
        usual, "GET", "/v1/shelf/a", **dict(options)
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": ["a"], "price": 2}',
        b'{"items": ["a"], "price": NaN}',
        b'{"items": ["a"], "price": 123456789012345678901234567890}',
        b'{"items": ["\\ud800"]}',
        b'{"items": []}',
        b'{"items": [1]}',
        b"[]",
        b"null",
        b"7",
        b'{"items": ["a"',
        b"",
        b"\xff",
        b'{"items": ["' + b"x" * 2_000 + b'"]}',
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        "application/vnd.api+json",
        "text/plain",
        None,
    ],
)
def test_every_body_is_answered_as_by_fastapi(
    direct: httpx.Client, usual: httpx.Client, body: bytes, kind: str | None
) -> None:
    headers = {"content-type": kind} if kind else {}
    assert outcome(direct, "POST", "/v1/baskets", content=body, headers=headers) == outcome(
        usual, "POST", "/v1/baskets", content=body, headers=headers
    )


def test_a_body_that_grows_past_the_limit_is_refused(direct: httpx.Client) -> None:
    parts = (b"x" * 600 for _ in range(2))
    answer = direct.post("/v1/baskets", content=parts, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_the_document_is_the_same(direct: httpx.Client, usual: httpx.Client) -> None:
    assert direct.get("/openapi.json").json() == usual.get("/openapi.json").json()


def test_scopes_and_metrics_are_those_of_the_route() -> None:
    with served(HotRoute, api_token="s3cret") as (client, _):
        assert client.get("/v1/shelf/a").status_code == 401
        assert client.get("/v1/shelf/a?n=0").status_code == 401
        client.headers["authorization"] = "Bearer s3cret"
        assert client.get("/v1/shelf/a").status_code == 200
        name = 'slipstream_http_request_seconds_count{method="GET",route="/v1/shelf/{name:path}"'
        assert f'{name},status="200"}} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://shop.example"},
        {"origin": "https://elsewhere.example", "cookie": "a=b"},
        {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"},
        {"x-forwarded-for": ""},
        {"connection": "close"},
        {"host": "a.stranger.example"},
        {"authorization": "Bearer wrong"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/shelf/client", "/v1/shelf/missing"])
def test_every_header_is_heard_as_by_the_layers_of_the_app(
    direct: httpx.Client, usual: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert outcome(direct, "GET", path, headers=dict(headers)) == outcome(
        usual, "GET", path, headers=dict(headers)
    )


RAW = (
    b"GET /v1/shelf/a HTTP/1.0\r\nhost: h\r\n\r\n",
    b"GET http://h/v1/shelf/a?n=2 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    b"GET /v1/shelf/a#b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    b"POST /v1/baskets HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
    b"content-length: 15\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    b'{"items":["a"]}',
    b"POST /v1/baskets HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    b'f\r\n{"items":["a"]}\r\n0\r\n\r\n',
    b"POST /v1/baskets HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
    b"content-length: 00000000000000015\r\nconnection: close\r\n\r\n"
    b'{"items":["a"]}',
    b"GET /v1/shelf/slow HTTP/1.1\r\nhost: h\r\n\r\n"
    b"GET /v1/shelf/b HTTP/1.1\r\nhost: h\r\n\r\n"
    b"GET /v1/shelf/c HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    b"GET /v1/shelf/a HTTP/1.1\r\nhost: h\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n",
    b"GET /v1/shelf/a?n=x HTTP/1.1\r\nhost: h\r\n\r\n"
    b"GET /v1/shelf/a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
)


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("piece", [1, 1_000])
def test_every_form_of_a_request_is_answered_as_by_uvicorn(
    direct: httpx.Client, usual: httpx.Client, raw: bytes, piece: int
) -> None:
    def answer(client: httpx.Client) -> bytes:
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 60) as connection:
            for begin in range(0, len(raw), piece):
                connection.sendall(raw[begin : begin + piece])
            found = b"".join(iter(lambda: connection.recv(65_536), b""))
        return re.sub(rb'((?:date|x-request-id): |"request_id":)[^\r}]+', rb"\1", found)

    assert answer(direct) == answer(usual)


def test_the_table_answers_and_a_client_that_leaves_costs_nothing() -> None:
    with served(HotRoute) as (client, server):
        asked: list[str] = []
        hot = server.config.app.state.hot_routes  # type: ignore[union-attr]
        own = hot.answer

        async def answer(call: Any) -> Any:
            asked.append(call.request.url.path)
            return await own(call)

        hot.answer = answer
        assert client.get("/v1/shelf/a").status_code == 200
        assert client.post("/v1/baskets", json={"items": ["a"]}).status_code == 200
        port = client.base_url.port or 0
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(b"GET /v1/shelf/slow HTTP/1.1\r\nhost: h\r\n\r\n")
            time.sleep(0.02)
        time.sleep(0.1)
        assert client.get("/v1/shelf/b").status_code == 200
        assert asked == ["/v1/shelf/a", "/v1/baskets", "/v1/shelf/slow", "/v1/shelf/b"]


def test_an_answer_under_way_ends_before_the_server_does() -> None:
    with served(HotRoute, shutdown_grace_s=10) as (client, server):
        port = client.base_url.port or 0
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(b"GET /v1/shelf/slower HTTP/1.1\r\nhost: h\r\n\r\n")
            time.sleep(0.2)
            server.should_exit = True
            found = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert found.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in found


def test_a_waiting_service_refuses_hot_routes_too() -> None:
    with served(HotRoute) as (client, server):
        app: Any = server.config.app
        app.state.health.wait_for("shop", DependencyUnavailableError("closed until nine"))
        app.router.middleware_stack = _refusing
        assert client.get("/v1/shelf/a").status_code == 418
        app.state.health.go_on()
        assert client.get("/v1/shelf/a").status_code == 200


async def _refusing(scope: Any, receive: Any, send: Any) -> None:
    await Response(status_code=418)(scope, receive, send)


def test_a_route_that_the_layer_cannot_answer_is_refused_when_it_is_made() -> None:
    router = APIRouter(route_class=HotRoute)
    with pytest.raises(TypeError, match="one query"):

        @router.get("/a")
        async def two_queries(a: int = 1, b: int = 2) -> Response:
            return Response()

    with pytest.raises(TypeError, match="as one model"):

        @router.get("/a")
        async def bare_query(a: int = 1) -> Response:
            return Response()

    with pytest.raises(TypeError, match="one query"):

        @router.get("/a")
        async def with_header(agent: Annotated[str, Header()]) -> Response:
            return Response()


def test_routes_whose_order_would_matter_are_refused_at_the_start() -> None:
    router = APIRouter(route_class=HotRoute)

    @router.get("/shelf/{name:path}")
    @requires(Scope.READ)
    async def shelf(name: str) -> Response:
        return Response()

    @router.get("/shelf/best")
    @requires(Scope.READ)
    async def best() -> Response:
        return Response()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match="/shelf/best has paths"):
        create_service(
            "probe", ServiceSettings(), description="", lifespan=lifespan, routers=[router]
        )
