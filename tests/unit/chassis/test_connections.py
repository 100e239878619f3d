"""Limits of connections, on real sockets: what a client sends, keeps and takes, how long."""

import gc
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response

from slipstream.chassis.access.guard import Demands, open_to_all, routes_of
from slipstream.chassis.app import RequestMiddleware
from slipstream.chassis.connections import RequestLog
from slipstream.chassis.hot_routes import HotRoute, HotRoutes
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.server import server_config
from slipstream.chassis.settings import ServiceSettings
from slipstream_cli.local.processes import free_port
from tests.waiting import running, until

LARGE_ANSWER = 40_000_000
GET = b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n"


def an_app() -> FastAPI:
    app = FastAPI()
    app.state.metrics = Metrics("probe")
    router = APIRouter(route_class=HotRoute)

    @router.api_route("/", methods=["GET", "POST"])
    @open_to_all
    async def size(request: Request) -> Response:
        return Response(str(len(await request.body())))

    @router.post("/named")
    @open_to_all
    async def named(request: Request) -> Response:
        await request.body()
        return Response("named:" + " ".join(request.headers.keys()))

    @app.get("/in-a-thread")
    @open_to_all
    def in_a_thread() -> Response:
        return Response("")

    @router.get("/large")
    @open_to_all
    async def large() -> Response:
        return Response(b" " * LARGE_ANSWER)

    app.include_router(router)
    log = RequestLog(app.state.metrics, Demands([]))
    app.add_middleware(RequestMiddleware, log=log)
    app.state.hot_routes = HotRoutes(app, routes_of(app), {}, log, lambda: False, guard=None)
    return app


@contextmanager
def served(**limits: float) -> Iterator[tuple[int, FastAPI]]:
    """A server with these limits, in a thread; its port, and its app."""
    app, port = an_app(), free_port()
    settings = ServiceSettings(http={"port": port, "shutdown_grace_s": 0, **limits})  # type: ignore[arg-type]
    server = uvicorn.Server(server_config(app, settings, "ingestion"))
    with running(server):
        yield port, app


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with the limits that are the default."""
    with served() as (port, _):
        yield port


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
        yield connection


def sent(connection: socket.socket, pieces: Iterator[bytes]) -> int:
    """Send the pieces until the other side closes; the number of bytes sent."""
    count = 0
    try:
        for piece in pieces:
            connection.sendall(piece)
            count += len(piece)
    except OSError:
        pass
    return count


def received(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def received_until(connection: socket.socket, end: bytes) -> None:
    """Read up to these bytes."""
    got = b""
    while not got.endswith(end):
        part = connection.recv(1)
        assert part, got
        got += part


def refusals(app: FastAPI, code: str) -> float | None:
    registry = app.state.metrics.registry
    count: float | None = registry.get_sample_value(
        "slipstream_http_refusals_total", {"code": code}
    )
    return count


def repeated(first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(42_000_000 // len(piece)):
        yield piece


CHUNKED = b"POST / HTTP/1.1\r\nHost: probe\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"GET / HTTP/1.1\r\nx: ", b"a" * 10_000),
        (b"GET /", b"a" * 10_000),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1_000),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 4),
        (CHUNKED + b"0\r\nx: ", b"a" * 10_000),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 1_000),
        (CHUNKED + b"1;", b"a" * 10_000),
    ],
    ids=["header", "line", "headers", "few at a time", "trailer", "trailers", "extension"],
)
def test_a_head_without_end_is_not_read(port: int, first: bytes, piece: bytes) -> None:
    with connected(port) as connection:
        # The system's buffers take some unread megabytes.
        assert sent(connection, repeated(first, piece)) < 20_000_000
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 431 "), answer
    assert b'"code":"head_too_large"' in answer


def test_the_largest_head_is_taken_and_one_more_byte_is_not() -> None:
    rest = len(GET) + len(b"x: \r\n")
    largest = GET[:-2] + b"x: " + b"a" * (2_048 - rest) + b"\r\n\r\n"
    with served(max_head_bytes=2_048) as (port, app):
        for head, status in ((largest, b"200"), (largest.replace(b"x:", b"xx:"), b"431")):
            with connected(port) as connection:
                connection.sendall(head)
                assert connection.recv(12) == b"HTTP/1.1 " + status
        assert refusals(app, "head_too_large") == 1


@pytest.mark.parametrize(
    "first",
    [b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: probe\r\nContent-Length: 999\r\n\r\n"],
)
def test_a_client_that_sends_slowly_is_closed(first: bytes) -> None:
    """A byte now and then does not help; uvicorn would wait for ever."""
    # What is sent first has to arrive before the time is over.
    timeout_s = 3.0 if first else 0.3
    with served(client_timeout_s=timeout_s) as (port, _), connected(port) as connection:
        connection.sendall(first)
        connection.settimeout(0.05)
        answer = b""
        while True:
            try:
                part = connection.recv(1 << 16)
            except TimeoutError:
                if first:
                    sent(connection, iter([b"a"]))
                continue
            except ConnectionResetError:
                break
            answer += part
            if not part:
                break
    assert answer.startswith(b"HTTP/1.1 408 ") if first else answer == b""


def test_a_client_that_does_not_read_is_cut_off() -> None:
    with served(client_timeout_s=0.3) as (port, app), connected(port) as connection:
        connection.sendall(GET.replace(b"/", b"/large", 1))
        until(lambda: refusals(app, "too_slow") == 1)
        assert len(received(connection)) < LARGE_ANSWER


def test_at_the_limit_the_connection_that_waits_longest_gives_way() -> None:
    with served(max_connections=3) as (port, _), connected(port) as idle, connected(port) as half:
        half.sendall(GET[:9])
        with connected(port) as third, connected(port) as fourth:
            for connection in (third, fourth):
                connection.sendall(GET)
                assert connection.recv(12) == b"HTTP/1.1 200"
            assert received(idle) == b""
            half.sendall(GET[9:])
            assert half.recv(12) == b"HTTP/1.1 200"


def test_large_bodies_on_their_way_have_a_limit_and_small_ones_none() -> None:
    head = b"POST / HTTP/1.1\r\nHost: probe\r\nContent-Length: %d\r\n\r\n"
    with served(max_pending_bytes=65_536) as (port, _), connected(port) as large:
        large.sendall(head % 80_000 + b" " * 75_000)
        with connected(port) as second:
            sent(second, iter([head % 80_000, b" " * 80_000]))
            answer = received(second)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"too_many_bodies" in answer
        with connected(port) as small:
            small.sendall(head % 16_384 + b" " * 16_384)
            assert small.recv(12) == b"HTTP/1.1 200"
        large.sendall(b" " * 5_000)
        assert large.recv(12) == b"HTTP/1.1 200"
        with connected(port) as next_one:
            next_one.sendall(head % 80_000 + b" " * 80_000)
            assert next_one.recv(12) == b"HTTP/1.1 200"


def test_bodies_of_requests_that_wait_on_a_connection_count_until_they_are_answered() -> None:
    request = b"POST / HTTP/1.1\r\nHost: probe\r\nContent-Length: %d\r\n\r\n"
    with served(max_pending_bytes=140_000) as (port, _), connected(port) as piped:
        # One answer may come while the next two requests are still on their way.
        piped.sendall((request % 30_000 + b" " * 30_000) * 2 + request % 80_000 + b" " * 60_000)
        for _ in range(2):
            assert piped.recv(12) == b"HTTP/1.1 200"
            received_until(piped, b"30000")
        with connected(port) as second:
            sent(second, iter([request % 130_000, b" " * 130_000]))
            assert b"too_many_bodies" in received(second)
        piped.sendall(b" " * 20_000)
        assert piped.recv(12) == b"HTTP/1.1 200"
        received_until(piped, b"80000")
        with connected(port) as third:
            third.sendall(request % 130_000 + b" " * 130_000)
            assert third.recv(12) == b"HTTP/1.1 200"


def test_few_requests_may_wait_on_a_connection(port: int) -> None:
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connected(port) as connection:
        connection.sendall(GET * 9 + last)
        assert received(connection).count(b"HTTP/1.1 200") == 10
    with connected(port) as connection:
        connection.sendall(GET * 1_000)
        assert received(connection).count(b"HTTP/1.1 200") < 20


def test_a_request_to_change_the_protocol_is_answered_as_any_other(port: int) -> None:
    upgrade = b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with connected(port) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", upgrade))
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_a_trailer_is_no_header(port: int, expects: bytes) -> None:
    head = b"POST /named HTTP/1.1\r\nHost: probe\r\nTransfer-Encoding: chunked\r\n" + expects
    body = b"3\r\nabc\r\n0\r\nAuthorization: Bearer s3cret\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n"
    with connected(port) as connection:
        for _ in range(2):
            connection.sendall(head + b"\r\n" + body)
            received_until(connection, b"named:")
            assert connection.recv(1 << 16).strip() == b"host transfer-encoding" + (
                b" expect" if expects else b""
            )


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_a_request_without_one_host_is_refused(port: int, hosts: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400") and b"Host" in answer


def test_refused_bodies_are_forgotten_before_the_garbage_collector_comes() -> None:
    """It comes rarely, and clients with large bodies come again and again."""
    head = b"POST / HTTP/1.1\r\nHost: probe\r\nContent-Length: 3000000\r\n\r\n"
    with served(max_pending_bytes=1_000_000) as (port, app):
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(30):
                with connected(port) as connection:
                    sent(connection, iter((head, b"x" * 2_000_000)))
                    received(connection)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert refusals(app, "too_many_bodies") == 30
    assert held < 5_000_000


def test_a_client_that_leaves_while_its_requests_wait_for_answers_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = list[Exception]()
    monkeypatch.setattr(RequestLog, "failed", lambda _log, _scope, error: failures.append(error))
    with served() as (port, _):
        for _ in range(20):
            with connected(port) as connection:
                connection.sendall(GET.replace(b"/ ", b"/in-a-thread ", 1) * 40)
                connection.recv(1)
        with connected(port) as connection:
            connection.sendall(GET)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert failures == []
