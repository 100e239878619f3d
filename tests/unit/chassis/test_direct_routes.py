"""A direct route answers as FastAPI does: every request is sent to one app with the layer, and to
one without it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from slipstream.chassis.access.demands import requires
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.direct_routes import DirectRoute
from slipstream.chassis.errors import NotFoundError
from slipstream.chassis.settings import HttpSettings, ServiceSettings
from slipstream.contracts.access import Scope
from slipstream.contracts.events import Id


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

    return create_service(
        "probe",
        settings or ServiceSettings(http=HttpSettings(max_body_bytes=1_024)),
        description="",
        lifespan=lifespan,
        routers=[router],
    )


@pytest.fixture(scope="module")
def direct() -> TestClient:
    return TestClient(an_app(DirectRoute), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def usual() -> TestClient:
    return TestClient(an_app(APIRoute), raise_server_exceptions=False)


def outcome(client: TestClient, method: str, path: str, **options: Any) -> tuple[Any, ...]:
    headers = {"x-request-id": "r-1", **options.pop("headers", {})}
    answer = client.request(method, path, headers=headers, **options)
    return answer.status_code, answer.text, sorted(answer.headers.items())


PATHS = (
    "/v1/shelf/a",
    "/v1/shelf/a%2Fb%20%C3%BC/c",
    "/v1/shelf/",
    "/v1/shelf/line%0Abreak",
    "/v1/shelf/" + "x" * 300,
    "/v1/shelf/missing",
    "/v1/shelf/away",
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
    "place=toolong",
    "n=%zz&&=;",
    "place=%ff",
    "n=7&place=" + "y" * 200,
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_every_path_and_method_is_answered_as_by_fastapi(
    direct: TestClient, usual: TestClient, method: str, path: str
) -> None:
    assert outcome(direct, method, path) == outcome(usual, method, path)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_answered_as_by_fastapi(
    direct: TestClient, usual: TestClient, query: str
) -> None:
    for _ in range(2):  # the second time, what was read is remembered
        path = f"/v1/shelf/a?{query}"
        assert outcome(direct, "GET", path) == outcome(usual, "GET", path)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["n", "deep", "exclude", "place", "other"]), st.text())))
def test_any_query_is_answered_as_by_fastapi(
    direct: TestClient, usual: TestClient, query: list[tuple[str, str]]
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
    direct: TestClient, usual: TestClient, body: bytes, kind: str | None
) -> None:
    headers = {"content-type": kind} if kind else {}
    assert outcome(direct, "POST", "/v1/baskets", content=body, headers=headers) == outcome(
        usual, "POST", "/v1/baskets", content=body, headers=headers
    )


def test_a_body_that_grows_past_the_limit_is_refused(direct: TestClient) -> None:
    parts = (b"x" * 600 for _ in range(2))
    answer = direct.post("/v1/baskets", content=parts, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_the_document_is_the_same(direct: TestClient, usual: TestClient) -> None:
    assert direct.get("/openapi.json").json() == usual.get("/openapi.json").json()


def test_scopes_and_metrics_are_those_of_the_route() -> None:
    settings = ServiceSettings(http=HttpSettings(api_token="s3cret"))  # type: ignore[arg-type]
    client = TestClient(an_app(DirectRoute, settings))
    assert client.get("/v1/shelf/a").status_code == 401
    assert client.get("/v1/shelf/a?n=0").status_code == 401
    client.headers["authorization"] = "Bearer s3cret"
    assert client.get("/v1/shelf/a").status_code == 200
    counted = 'slipstream_http_request_seconds_count{method="GET",route="/v1/shelf/{name:path}"'
    assert f'{counted},status="200"}} 1.0' in client.get("/metrics").text


def test_a_waiting_service_refuses_direct_routes_too() -> None:
    app = an_app(DirectRoute)
    client = TestClient(app)
    app.state.health.wait_for("shop", DependencyUnavailableError("closed until nine"))
    app.router.middleware_stack = _refusing
    assert client.get("/v1/shelf/a").status_code == 418
    app.state.health.go_on()
    assert client.get("/v1/shelf/a").status_code == 200


async def _refusing(scope: Any, receive: Any, send: Any) -> None:
    await Response(status_code=418)(scope, receive, send)


def test_a_route_that_the_layer_cannot_answer_is_refused_when_it_is_made() -> None:
    router = APIRouter(route_class=DirectRoute)
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
    router = APIRouter(route_class=DirectRoute)

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

    app = create_service(
        "probe", ServiceSettings(), description="", lifespan=lifespan, routers=[router]
    )
    with pytest.raises(TypeError, match="/shelf/best has paths"):
        TestClient(app).get("/shelf/best")
