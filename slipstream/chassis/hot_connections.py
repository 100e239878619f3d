"""Connections that offer complete requests to a table of hot routes, before an ASGI cycle is made.

What the layers of the app do for a request is done here by the same functions: the guard, the log,
the client that a trusted proxy tells of, headers for pages. uvicorn's own cycle is made for all
other requests.
"""

from time import perf_counter
from typing import Any, Final, cast
from urllib.parse import unquote

from starlette.types import ASGIApp, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

from slipstream.chassis.connections import BoundedConnection
from slipstream.chassis.errors import unexpected
from slipstream.chassis.hot_routes import Headers, HotCall, HotRoutes
from slipstream.chassis.logging import request_id

# Headers by which a proxy tells of its client.
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})


class HotCycle:
    """A request of a hot route and its answer, in the place of uvicorn's cycle.

    Attributes:
        body: What has arrived of the body.
        more_body: Whether more is to come.
        keep_alive: Whether the connection stays open.
        disconnected: Whether the client has left.
        response_started: Whether the answer is being written.
        response_complete: Whether it is written.
        message_event: What uvicorn tells that the client has left; nobody waits for it.
    """

    __slots__ = (
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(self, scope: Scope, keep_alive: bool) -> None:
        self.scope, self.keep_alive = scope, keep_alive
        self.body, self.more_body = bytearray(), True
        self.disconnected = self.response_started = self.response_complete = False
        self.message_event = _UNHEARD


class _Unheard:
    """An event that nobody waits for."""

    def set(self) -> None:
        """Do nothing."""


_UNHEARD: Final = _Unheard()


class HotConnection(BoundedConnection):
    """A connection that answers requests of hot routes itself.

    A request that comes while another one is answered waits for it, and goes to the app.
    """

    def __init__(self, *arguments: Any, hot: HotRoutes, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._hot = hot

    def begin(self) -> None:
        """Begin the request whose head has arrived."""
        if self._is_hot():
            keep_alive = self.parser.should_keep_alive()
            self.cycle = cast(Any, HotCycle(cast(Any, self.scope), keep_alive))
        else:
            super().begin()

    def _is_hot(self) -> bool:
        """Whether the table of hot routes answers the request whose head has arrived."""
        url = self.url
        if (
            self.expect_100_continue
            or (self.cycle is not None and not self.cycle.response_complete)
            or url[:1] != b"/"
            or b"#" in url
            or self.root_path
            or self.parser.get_http_version() != "1.1"
            or self.parser.should_upgrade()
        ):
            return False
        scope = cast(Any, self.scope)
        raw_path, _, scope["query_string"] = url.partition(b"?")
        scope["method"] = self.parser.get_method().decode("ascii")
        path = raw_path.decode("latin-1")
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, raw_path
        return path.isascii() and self._knows_client(scope) and self._hot.takes(scope)

    def _knows_client(self, scope: Scope) -> bool:
        """Whether no proxy tells of another client; what a proxy tells is read by the app's layer.

        A proxy that is trusted is asked by uvicorn's own layer, which is the app's outermost.
        """
        return _FORWARDED.isdisjoint(dict(scope["headers"])) or _forwarded(self.app, scope)

    def take(self, body: bytes) -> None:
        """Take a part of the body, which is small."""
        cycle: Any = self.cycle
        if type(cycle) is HotCycle:
            cycle.body += body
        else:
            super().take(body)

    def end(self) -> None:
        """Have a complete request answered: by its hot route, or else by the app."""
        cycle: Any = self.cycle
        if type(cycle) is not HotCycle or not cycle.more_body:
            super().end()
            return
        body = bytes(cycle.body)
        call = self._hot.call(cycle.scope, body)
        if call is None:
            self.cycle = cast(Any, None)
            super().begin()
            if body:
                super().take(body)
            super().end()
            return
        cycle.more_body = False
        task = self.loop.create_task(self._answer(call, cycle))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _answer(self, call: HotCall, cycle: HotCycle) -> None:
        """Answer a request of a hot route, as the app and its cycle would."""
        scope, log = cycle.scope, self._hot.log
        rid = log.id_of(scope)
        request_id.set(rid)
        status, started = 500, perf_counter()
        try:
            try:
                response = await self._hot.answer(call)
            except Exception as error:
                log.failed(scope, error)
                response = unexpected(error)
            headers = await self._hot.headers(scope, response, rid)
            if HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
                log.failed(scope, ValueError("a header has a line break"))
                self.transport.close()
                return
            status = response.status_code
            if self.flow.write_paused and not cycle.disconnected:
                await self.flow.drain()
            if not cycle.disconnected:
                self._write(cycle, status, headers, bytes(response.body))
        finally:
            log.ended(scope, status, perf_counter() - started)

    def _write(self, cycle: HotCycle, status: int, headers: Headers, body: bytes) -> None:
        lines = [STATUS_LINE[status]]
        says_close = False
        for name, value in (*self.server_state.default_headers, *headers):
            if name == b"connection" and b"close" in value.lower():
                cycle.keep_alive, says_close = False, True
            lines += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _forwarded(app: ASGIApp, scope: Scope) -> bool:
    """Let uvicorn's layer write the client that a trusted proxy tells of into the scope.

    False where the app has no such layer, and is to be asked itself.
    """
    if not isinstance(app, ProxyHeadersMiddleware):
        return False
    layer = ProxyHeadersMiddleware(_nothing)
    layer.trusted_hosts = app.trusted_hosts
    try:
        layer(cast(Any, scope), _never, _never).send(None)
    except StopIteration:
        return True
    return False


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """An app that leaves a request as it is."""


async def _never(*_: Any) -> Any:
    raise AssertionError("no message is read or sent")
