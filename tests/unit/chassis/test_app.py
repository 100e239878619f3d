import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import pytest
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.types import Message

from slipstream.chassis.access.guard import requires
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.chassis.logging import request_id
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import Scope


class ShopClosedError(DependencyUnavailableError):
    dependency = "shop"


class Body(BaseModel):
    size: int


def an_app(
    settings: ServiceSettings | None = None,
    *,
    checks: dict[str, Exception | None] | None = None,
    name: str = "probe",
) -> FastAPI:
    router = APIRouter()

    @router.get("/echo")
    @requires(Scope.READ)
    async def echo() -> dict[str, str]:
        return {"request_id": request_id.get()}

    @router.get("/missing")
    @requires(Scope.READ)
    async def missing() -> None:
        raise NotFoundError("no item 'x'", code="unknown_item")

    @router.get("/away")
    @requires(Scope.READ)
    async def away() -> None:
        raise UnavailableError("the broker is away", retry_after_s=7)

    @router.get("/closed")
    @requires(Scope.READ)
    async def closed() -> None:
        raise ShopClosedError("closed until nine")

    @router.get("/broken")
    @requires(Scope.READ)
    async def broken() -> None:
        raise ZeroDivisionError("oops")

    @router.post("/body")
    @requires(Scope.OPERATE)
    async def body(body: Body) -> Body:
        return body

    @router.post("/bodies")
    @requires(Scope.OPERATE)
    async def bodies(body: list[Body]) -> int:
        return len(body)

    @router.post("/raw")
    @requires(Scope.OPERATE)
    async def raw(request: Request) -> int:
        return len(await request.body())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for name, failure in (checks or {}).items():

            async def check(failure: Exception | None = failure) -> None:
                if failure:
                    raise failure

            app.state.health.add(name, check)
        yield

    return create_service(
        name,
        settings or ServiceSettings(),
        description="A probe.",
        lifespan=lifespan,
        routers=[router],
    )


@asynccontextmanager
async def _nothing_to_open(_app: FastAPI) -> AsyncIterator[None]:
    yield


def test_request_id_of_the_caller_is_kept_and_returned() -> None:
    with TestClient(an_app()) as client:
        response = client.get("/echo", headers={"X-Request-Id": "abc"})
    assert response.json() == {"request_id": "abc"}
    assert response.headers["x-request-id"] == "abc"


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (
            b'{"size": 1}',
            None,
            "send it with the header Content-Type: application/json, which is missing",
        ),
        (
            b'{"size": 1}',
            "text/plain",
            "send it with the header Content-Type: application/json, not text/plain",
        ),
        (b"[1]", "application/json", "must be a JSON object"),
        (b"", "application/json", "is missing: send JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_what_to_send(
    content: bytes, kind: str | None, reason: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    with TestClient(an_app()) as client:
        answer = client.post("/body", content=content, headers=headers)
        of_list = client.post("/bodies", json={"size": 1}).json()["errors"][0]["reason"]
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["field"], error["reason"]) == (422, "body", reason)
    assert "list" in of_list


def test_request_id_is_made_where_none_is_given() -> None:
    with TestClient(an_app()) as client:
        first, second = (
            client.get("/echo").json()["request_id"],
            client.get("/echo").json()["request_id"],
        )
    assert first and second and first != second


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/missing", 404, "unknown_item"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/echo", 405, "method_not_allowed"),
        ("GET", "/away", 503, "unavailable"),
        ("GET", "/closed", 503, "shop_unavailable"),
        ("GET", "/broken", 500, "internal_error"),
    ],
)
def test_errors_are_problem_json_with_a_stable_code(
    method: str, path: str, status: int, code: str
) -> None:
    with TestClient(an_app(), raise_server_exceptions=False) as client:
        response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    assert response.json()["request_id"]


@pytest.mark.parametrize(
    ("service", "path", "detail"),
    [
        ("serving", "/v1/track", "this is serving; ask ingestion (8001) for /v1/track"),
        (
            "training",
            "/v1/users/ada/export",
            "this is training; ask ingestion (8001) or features (8002) for /v1/users",
        ),
        ("serving", "/v1/answers/x/y", "Not Found"),
        ("serving", "/track", "Not Found"),
    ],
)
def test_a_path_of_another_service_says_whom_to_ask(service: str, path: str, detail: str) -> None:
    with TestClient(an_app(name=service)) as client:
        assert client.get(path).json()["detail"] == detail


def test_the_root_says_what_answers_and_where_to_read_on() -> None:
    with TestClient(an_app(name="serving")) as client:
        index = client.get("/").json()
        assert (index["service"], index["version"]) == ("Slipstream serving", version("slipstream"))
        assert [client.get(index[link]).status_code for link in ("docs", "ready")] == [200, 200]


def test_unavailable_says_when_to_try_again() -> None:
    with TestClient(an_app()) as client:
        assert client.get("/away").headers["retry-after"] == "7"


def test_invalid_body_names_the_field() -> None:
    with TestClient(an_app()) as client:
        response = client.post("/body", json={"size": "big"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body.size"


def test_ready_names_what_is_down() -> None:
    with TestClient(an_app(checks={"redis": ConnectionError("refused"), "kafka": None})) as client:
        live, ready = client.get("/health/live"), client.get("/health/ready")
    assert live.status_code == 200
    assert ready.status_code == 503
    assert ready.json()["down"] == ["redis"]
    assert "refused" in ready.json()["checks"]["redis"]
    assert ready.json()["checks"]["kafka"] == "ok"


def test_a_slash_too_many_leads_to_no_other_host() -> None:
    with TestClient(an_app(), follow_redirects=False) as client:
        answer = client.get("/metrics/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)


def test_metrics_count_requests_by_route_not_by_path() -> None:
    with TestClient(an_app()) as client:
        client.get("/echo")
        client.get("/nowhere/at/all")
        text = client.get("/metrics").text
    assert (
        'slipstream_http_request_seconds_count{method="GET",route="/echo",status="200"} 1.0' in text
    )
    assert 'route="unmatched"' in text and "/nowhere" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/v1/users/ada", 401, "/v1/users/{user_id:path}"),
        ("DELETE", "/v1/users/ada/export", 403, "/v1/users/{user_id}/export"),
        ("PUT", "/v1/users/ada", 405, "/v1/users/{user_id:path}"),
        ("POST", "/v1/users/ada", 413, "/v1/users/{user_id:path}"),
        ("GET", "/v1/user/ada", 404, "unmatched"),
        ("GET", "/v1/users/ada/broken", 500, "/v1/users/{user_id}/broken"),
    ],
)
def test_logs_name_the_route_of_a_refused_request_and_never_its_path(
    method: str, path: str, status: int, route: str
) -> None:
    router = APIRouter(prefix="/v1/users")

    @router.get("/{user_id}/broken")
    @requires(Scope.READ)
    async def broken() -> None:
        raise ZeroDivisionError

    @router.delete("/{user_id}/export")
    @requires(Scope.ERASE)
    async def export() -> None:
        """Nothing."""

    @router.get("/{user_id:path}")
    @router.post("/{user_id:path}")
    @requires(Scope.READ)
    async def get() -> None:
        """Nothing."""

    settings = ServiceSettings(http={"api_token": "s3cret"})  # type: ignore[arg-type]
    app = create_service(
        "probe", settings, description="", lifespan=_nothing_to_open, routers=[router]
    )
    headers = {} if status == 401 else {"Authorization": "Bearer s3cret"}
    body = b" " * (settings.http.max_body_bytes + 1) if status == 413 else None
    with (
        TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client,
        structlog.testing.capture_logs() as logged,
    ):
        answer = client.request(method, path, headers=headers, content=body)
        measured = client.get("/metrics").text
    assert answer.status_code == status
    lines = [line for line in logged if line.get("path", "/metrics") != "/metrics"]
    assert lines and {line["path"] for line in lines} == {route}
    assert "ada" not in str([{**line, "exc_info": None} for line in logged])
    # The others were refused before they were routed, or have a method that the route has not.
    of, counted = (method, route) if status == 500 else ("other", "unmatched")
    assert f'method="{of}",route="{counted}",status="{status}"' in measured


async def test_a_client_that_goes_away_in_the_middle_is_no_failure_of_ours() -> None:
    app = an_app()
    sent: list[Message] = []
    coming: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/raw",
        "raw_path": b"/raw",
        "query_string": b"",
        "headers": [],
    }
    with structlog.testing.capture_logs() as logged:
        await app(scope, receive, send)
    assert sent == []
    assert [entry for entry in logged if entry["log_level"] in ("warning", "error")] == []
    counted = app.state.metrics.registry.get_sample_value(
        "slipstream_http_request_seconds_count",
        {"method": "POST", "route": "/raw", "status": "499"},
    )
    assert counted == 1


def test_an_answer_lists_the_first_of_many_faults() -> None:
    with TestClient(an_app()) as client:
        answer = client.post("/bodies", json=[{}] * 1_000)
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 20)


def test_every_file_of_the_page_comes_from_the_service() -> None:
    with TestClient(an_app()) as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "'/openapi.json'" in page.text
        linked = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert len(linked) == 3
        for path in linked:
            assert re.fullmatch(r"/docs/[a-z.-]+", path)
            answer = client.get(path)
            assert answer.status_code == 200 and len(answer.content) > 1_000, path
        assert not re.search(r"//[a-z]", page.text)
        assert "default-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/redoc", "/docs/redoc.standalone.js", "/docs/..%2fcore.py", "/docs/oauth2-redirect"]
)
def test_nothing_else_of_the_package_is_served(path: str) -> None:
    with TestClient(an_app()) as client:
        assert client.get(path).status_code == 404


def test_a_stream_of_events_is_no_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("slipstream.chassis.app.time.perf_counter", lambda: now[0])
    router = APIRouter()

    async def lines() -> AsyncIterator[bytes]:
        now[0] += 3600
        yield b"data: 1\n\n"

    @router.get("/{kind}")
    @requires(Scope.READ)
    async def streamed(kind: str) -> StreamingResponse:
        now[0] += 0.004
        return StreamingResponse(lines(), media_type=f"text/{kind}")

    app = create_service(
        "probe", ServiceSettings(), description="", lifespan=_nothing_to_open, routers=[router]
    )
    with TestClient(app) as client, structlog.testing.capture_logs() as logs:
        assert client.get("/event-stream").text == "data: 1\n\n"
        client.get("/plain")
        told = [entry["log_level"] for entry in logs if entry["event"] == "request"]
    assert told == ["debug", "warning"]
    seconds = app.state.metrics.http_seconds.labels("/{kind}", "GET", "200")._sum.get()
    assert seconds == pytest.approx(3600.008)
