"""Connections of clients: limits of what they send, keep and take and for how long, and a log.

uvicorn has a limit of a head's size for h11, and none for httptools; for neither has it a limit of
the time that a client takes. So this protocol adds them to the one that uvicorn serves with. Each
request gets an id, its time is a metric, and failures and slow ones are lines of the log.
"""

import asyncio
import logging
import random
from functools import partial
from typing import Any, Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipstream.chassis import health
from slipstream.chassis.access.guard import Demands
from slipstream.chassis.errors import (
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    problem_of,
)
from slipstream.chassis.logging import TracedId, get_logger, request_id
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import HttpSettings

log = get_logger(__name__)

SLOW_REQUEST_S = 1.0
# Route of requests that have none.
_UNMATCHED: Final = "unmatched"


class RequestLog:
    """The log of a service's requests, however they are answered."""

    def __init__(self, measured: Metrics, demands: Demands) -> None:
        self._seconds, self._demands = measured.http_seconds, demands
        self._tracing = measured.tracing
        self._children: dict[tuple[str, str, int], Any] = {}
        # Asked once: structlog takes longer for it than a histogram for a value.
        self._tells_all = log.is_enabled_for(logging.DEBUG)

    def id_of(self, scope: Scope) -> str:
        """The caller's `X-Request-Id`, or a new id; a `TracedId` where the request is traced."""
        # Random by arithmetic: asking the system would let another thread take the interpreter in
        # every request.
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        given = headers.get(b"x-request-id", b"")
        rid = given.decode("latin-1")[:64] or f"{random.getrandbits(128):032x}"
        if self._tracing is None:
            return rid
        return self._tracing.begin(rid, headers.get(b"traceparent"), scope)

    def failed(self, scope: Scope, error: Exception) -> None:
        """Log a failure that nobody has foreseen."""
        route = self._route(scope)
        log.error("request failed", method=scope["method"], path=route, exc_info=error)

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request, and log it where it failed or was slow.

        Anybody may send any method to any path. So the metric has the methods of a route, and one
        route for all other requests, and for those that were answered before they were routed.
        """
        route, routed = self._route(scope), scope.get("route")
        if type(rid := request_id.get()) is TracedId and rid.recorded is not None:
            rid.recorded.answered(scope["method"], route, status)
        own = scope["method"] in (getattr(routed, "methods", None) or ())
        key = (route, scope["method"], status) if own else (_UNMATCHED, "other", status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._seconds.labels(*map(str, key))
        child.observe(seconds)
        if route == health.READY and status == 503 and not self._tells_all:
            return  # it is polled every few seconds, and its body gives the reason
        if status >= 500 or seconds > SLOW_REQUEST_S:
            emit = log.warning
        elif status >= 400:
            emit = log.info
        elif self._tells_all:
            emit = log.debug
        else:
            return
        emit(
            "request",
            method=scope["method"],
            path=route,
            status=status,
            ms=round(seconds * 1000, 2),
        )

    def _route(self, scope: Scope) -> str:
        """The route's path, for logs and metrics: the request's may name a visitor, or a key.

        A refused request has not been routed, so its route is looked up.
        """
        routed = getattr(scope.get("route"), "path", None)
        return routed or self._demands.path_of(scope) or _UNMATCHED


# Header lines of one request. Browsers and proxies send some dozens.
MOST_HEADERS: Final = 100
# Requests that wait on a connection for the answers to those before. Clients wait for each answer,
# or send a few.
MOST_PIPELINED: Final = 16
# Bytes of a body that don't count towards `max_pending_bytes`: small requests are always read.
SMALL_BODY_BYTES: Final = 16_384


class HeadTooLargeError(ServiceError):
    status, code, title = 431, "head_too_large", "The request's head is too large"


class TooSlowError(ServiceError):
    status, code, title = 408, "too_slow", "The request took too long to arrive"


class ConnectionPool:
    """The open connections of a server, and the bytes of large bodies that they hold.

    At the limit of connections, the one that has waited longest for its client gives way. So
    clients that send nothing, or slowly, do not keep others out.
    """

    def __init__(self, settings: HttpSettings, measured: Metrics | None = None) -> None:
        self.settings = settings
        self.pending_bytes = 0
        self._open: set[BoundedConnection] = set()
        # In the order in which they began to wait for their clients.
        self._waiting: dict[BoundedConnection, None] = {}
        self._refusals = None if measured is None else measured.http_refusals

    def protocol(
        self, kind: "type[BoundedConnection] | None" = None, **named: Any
    ) -> type[asyncio.Protocol]:
        """The protocol class for uvicorn, which calls it for each connection.

        `kind` is the kind of connections, and `named` are further arguments of it.
        """
        made = partial(kind or BoundedConnection, pool=self, **named)
        return cast(type[asyncio.Protocol], made)

    def enter(self, connection: "BoundedConnection") -> None:
        self._open.add(connection)
        if len(self._open) > self.settings.max_connections:
            first = next(iter(self._waiting), connection)
            first.refuse(
                UnavailableError("Too many connections are open", code="too_many_connections")
            )
            self._open.discard(first)

    def leave(self, connection: "BoundedConnection") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def wait(self, connection: "BoundedConnection") -> None:
        """The service waits for the client, from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def work(self, connection: "BoundedConnection") -> None:
        """The client waits for the service."""
        self._waiting.pop(connection, None)

    def count(self, error: ServiceError) -> None:
        if self._refusals is not None:
            self._refusals.labels(error.code).inc()


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed when its client sends too much, or takes too long.

    The bytes since the last progress (the end of a head, or a part of a body) are counted as they
    arrive, before they are parsed. So the limit of a head also holds for trailers and for
    extensions of chunks.
    """

    def __init__(self, *arguments: Any, pool: ConnectionPool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pool = pool
        self._most_head = pool.settings.max_head_bytes
        self._timeout_s = pool.settings.client_timeout_s
        self._fault: ServiceError | None = None
        # The request that is answered; others wait behind it.
        self._answered: Any = None
        self._in_body = False
        self._without_progress = 0
        self._body_bytes = self._pending_bytes = 0
        # Since when the client is late: with its request, and with reading the answer.
        self._receiving_since: float | None = None
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receiving_since = self.loop.time()
        self._timer = self.loop.call_later(self._timeout_s / 4, self._look_at_clock)
        self._pool.enter(self)
        if not transport.is_closing():
            self._pool.wait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._release()
        self._pool.leave(self)
        super().connection_lost(exc)
        if self.cycle is not None:
            # Nobody reads it any more. Connection and request hold each other until the garbage
            # collector comes, which is rare in features.
            for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
                cycle.body = bytearray()
        if self._answered is not None:
            # uvicorn marks the newest request alone, which may wait behind this one.
            self._answered.disconnected = True
            self._answered.message_event.set()
            self._answered = None

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            room = self._most_head - self._without_progress
            piece, data = data[:room], data[room:]
            self._without_progress += len(piece)
            super().data_received(piece)
            if self._without_progress >= self._most_head:
                self.refuse(
                    HeadTooLargeError(
                        f"The request line and headers have more than {self._most_head} bytes"
                    )
                )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # A trailer is no header: it must not sign in, or name another address.
        if len(self.headers) >= MOST_HEADERS:
            self._fault = HeadTooLargeError(f"The request has more than {MOST_HEADERS} headers")
            raise self._fault
        # As uvicorn's own does, without a further call for each header.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._fault = InvalidRequestError(
                f"More than {MOST_PIPELINED} requests wait on this connection"
            )
            raise self._fault
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and self.parser.get_http_version() == "1.1":
            self._fault = InvalidRequestError("The request has no Host header, or several")
            raise self._fault
        self._without_progress = 0
        self._in_body = True
        self.begin()

    def begin(self) -> None:
        """Begin the request whose head has arrived."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._without_progress = 0
        self.take(body)
        if self.cycle.response_complete:  # what is still sent after an early answer is dropped
            return
        self._body_bytes += len(body)
        added = max(0, self._body_bytes - SMALL_BODY_BYTES) - self._pending_bytes
        self._pending_bytes += added
        self._pool.pending_bytes += added
        if added and self._pool.pending_bytes > self._pool.settings.max_pending_bytes:
            self._fault = UnavailableError(
                "Too many large bodies are on their way at once", code="too_many_bodies"
            )
            raise self._fault

    def take(self, body: bytes) -> None:
        """Take a part of the body."""
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self.end()
        self._without_progress = 0
        if not self.cycle.response_complete:
            self._receiving_since = None
            self._pool.work(self)

    def end(self) -> None:
        """Note that the whole request has arrived."""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Requests that wait on this connection have sent their bodies, too.
        self._release(sum(len(cycle.body) for cycle, _ in self.pipeline))
        super().on_response_complete()
        if self.cycle.response_complete or self.cycle.more_body:
            self._receiving_since = self.loop.time()
            self._pool.wait(self)

    def pause_writing(self) -> None:
        self._sending_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._sending_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take, or what a callback of ours has refused."""
        fault, self._fault = self._fault, None
        self.refuse(fault or InvalidRequestError(msg, code="invalid_http"))
        if fault is not None:
            # Its frames hold the connection and what has arrived, and the parser holds the fault.
            fault.__traceback__ = None

    def refuse(self, error: ServiceError) -> None:
        """Close the connection, with the reason as the answer to what has arrived of a request.

        An idle connection, and one with another answer on its way, is closed without a word.
        """
        if self.transport.is_closing():
            return
        self._pool.count(error)
        self._pool.work(self)
        cycle = self.cycle
        at_work = cycle is not None and not cycle.response_complete
        another_answer = at_work and (cycle.response_started or self.pipeline)
        if not another_answer and (at_work or self._without_progress):
            response = problem_of(error)
            lines = [f"HTTP/1.1 {error.status} {error.title}".encode(), b"connection: close"]
            lines += [b"%s: %s" % pair for pair in response.raw_headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        if at_work:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _release(self, held: int = 0) -> None:
        """Count `held` bytes of bodies for this connection from now on, and no others."""
        pending = max(0, held - SMALL_BODY_BYTES)
        self._pool.pending_bytes += pending - self._pending_bytes
        self._body_bytes, self._pending_bytes = held, pending

    def _look_at_clock(self) -> None:
        now = self.loop.time()
        late = now - self._timeout_s
        if self.transport.is_closing() and self._sending_since is None:
            self._sending_since = now
        too_slow = TooSlowError(f"A request must arrive within {self._timeout_s:g} s")
        if self._sending_since is not None and self._sending_since <= late:
            self._pool.count(too_slow)
            self.transport.abort()  # the rest of the answer is dropped
            return
        if self._receiving_since is not None and self._receiving_since <= late:
            self.refuse(too_slow)
        self._timer = self.loop.call_later(self._timeout_s / 4, self._look_at_clock)
