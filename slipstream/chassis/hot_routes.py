"""Hot routes: the busiest endpoints, which are answered before an ASGI cycle is made.

Such a cycle and the layers around it cost more than a short answer. `connections` offers a request
to a service's table of hot routes when all of it has arrived. FastAPI documents these routes, and
its declarations say how their parameters are read. The table takes a request only where nothing is
to be said about it but the endpoint's answer: whatever else comes goes to the app, so that the
answer to it is the same as without the table. What the layers of the app do for a request is done
here by the same functions: the guard, the log, the client that a trusted proxy tells of.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, NamedTuple, cast, get_origin
from urllib.parse import parse_qsl, unquote

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

from slipstream.chassis.access.guard import Demand, Guard, demand_of
from slipstream.chassis.connections import BoundedConnection, RequestLog
from slipstream.chassis.errors import unexpected
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import any_name_because, query_names, unknown_parameters

# Queries that are remembered with what they were read as: clients send the same few again and
# again. Longer ones are read anew, so that they hold no memory.
_REMEMBERED: Final = 1_024
_LONGEST_REMEMBERED: Final = 128
# Largest body of a request that the table takes. A larger one is read in pieces, within the app's
# limits.
MOST_BODY_BYTES: Final = 65_536

# Key of an answer's headers in the scope of a request.
_ANSWER: Final = "slipstream.answer"

Headers = list[tuple[bytes, bytes]]
ReadQuery = Callable[[bytes], BaseModel]
ExceptionHandler = Callable[[Request, Any], Any]
ExceptionHandlers = Mapping[Any, ExceptionHandler]


class HotRoute(APIRoute):
    """A route that `HotRoutes` answers.

    Its endpoint is a coroutine that takes the request, and returns a response. It may also take
    parameters of the path, one model of the query, and one model of a JSON body. A query's model is
    shared by requests: don't change it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        dependant = self.dependant
        others = (dependant.dependencies, dependant.header_params, dependant.cookie_params)
        if any(others) or len(dependant.query_params) > 1 or self._embed_body_fields:
            raise TypeError(f"{self.path}: a hot route takes path, one query and one body")
        names = query_names(self)
        self._request = dependant.request_param_name
        self._takes_no_query = not names and not any_name_because(self)
        self._of_path = dependant.path_params
        self._query = [
            (field.name, _query_reader(field.field_info.annotation, names))
            for field in dependant.query_params
        ]

    def arguments(self, request: Request, body: bytes) -> dict[str, Any] | None:
        """The endpoint's arguments; None where the request is not as they are declared."""
        found: dict[str, Any] = {self._request: request} if self._request else {}
        scope = request.scope
        if self._takes_no_query and scope["query_string"]:
            return None
        for field in self._of_path:
            found[field.name], faults = field.validate(scope["path_params"][field.name])
            if faults:
                return None
        try:
            for name, read in self._query:
                found[name] = read(scope["query_string"])
            if self.body_field is not None:
                if not _is_json(scope):
                    return None
                value, faults = self.body_field.validate(orjson.loads(body))
                if faults:
                    return None
                found[self.body_field.name] = value
        except (ValidationError, _UnknownNameError, orjson.JSONDecodeError):
            return None
        return found


class HotCall(NamedTuple):
    """A call of a hot route's endpoint, with all that it takes."""

    request: Request
    endpoint: Callable[..., Any]
    arguments: dict[str, Any]


class HotRoutes:
    """The table of a service's hot routes.

    Args:
        handlers: The app's handlers of exceptions, by class.
        log: Gives ids to requests, times them and logs failures.
        closed: Whether the service waits to open, and refuses requests by its routing.
        guard: The guard; None for a service that asks for credentials itself.

    Raises:
        TypeError: Another route's path is one of a hot route's.
    """

    def __init__(
        self,
        app: Any,
        routes: Iterable[Route],
        handlers: ExceptionHandlers,
        log: RequestLog,
        closed: Callable[[], bool],
        guard: Guard | None,
    ) -> None:
        self._app, self._handlers, self.log = app, handlers, log
        self._closed, self._guard = closed, guard
        self._pages: ASGIApp | None = None
        known = list(routes)
        self._exact: dict[tuple[str, str], tuple[HotRoute, Demand]] = {}
        self._by_prefix: list[tuple[str, HotRoute, Demand]] = []
        for route in known:
            if not isinstance(route, HotRoute):
                continue
            _require_alone(route, known)
            demand = demand_of(route)
            if route.param_convertors:
                self._by_prefix.append((_prefix(route), route, demand))
            else:
                methods = route.methods or ()
                self._exact |= {(method, route.path): (route, demand) for method in methods}

    def takes(self, scope: Scope) -> bool:
        """Whether the table answers a request whose head has arrived, if its parameters are sound.

        Notes its route, its parameters in the path, and who sent it, in the scope.
        """
        found = self._find(scope)
        if found is None or self._closed():
            return False
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 8 or int(length) > MOST_BODY_BYTES:
            return False
        if b"transfer-encoding" in headers:
            return False
        scope["route"], demand = found
        if self._guard is not None and not self._guard.lets_pass(scope, demand):
            return False
        scope["app"] = self._app
        return True

    def call(self, scope: Scope, body: bytes) -> HotCall | None:
        """The call of an endpoint; None where the request is not as its parameters are declared."""
        request = Request(scope)
        # Where `Request.body` and `read_body` look first.
        request._body = body  # noqa: SLF001
        route: HotRoute = scope["route"]
        arguments = route.arguments(request, body)
        return None if arguments is None else HotCall(request, route.endpoint, arguments)

    async def answer(self, call: HotCall) -> Response:
        """The response of an endpoint. Raises what the service has no handler for."""
        try:
            response: Response = await call.endpoint(**call.arguments)
        except Exception as error:
            handler = self._handler(error)
            # Raised here and not in a call that has the error as its argument: error and frame
            # would hold each other, and with them the body.
            if handler is None:
                raise
            response = await handler(call.request, error)
        return response

    def pass_through(self, layer: Callable[..., ASGIApp], **options: Any) -> None:
        """Have a layer of the app see the answers to pages of other origins, whose headers it adds.

        `layer` and `options` are those of the app's `add_middleware`.
        """

        async def answered(scope: Scope, _receive: Receive, send: Send) -> None:
            headers = list(scope[_ANSWER])
            await send({"type": "http.response.start", "status": 200, "headers": headers})

        self._pages = layer(answered, **options)

    async def headers(self, scope: Scope, response: Response, rid: str) -> Headers:
        """The headers of a response to the request with this id."""
        headers = [*response.raw_headers, (b"x-request-id", rid.encode("latin-1"))]
        if self._pages is None or b"origin" not in dict(scope["headers"]):
            return headers
        found: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            found.append(message)

        scope[_ANSWER] = headers
        await self._pages(scope, receive, send)
        return list(found[0]["headers"])

    def _find(self, scope: Scope) -> tuple[HotRoute, Demand] | None:
        path, method = scope["path"], scope["method"]
        exact = self._exact.get((method, path))
        if exact is not None:
            scope["path_params"] = {}
            return exact
        for prefix, route, demand in self._by_prefix:
            if path.startswith(prefix) and method in (route.methods or ()):
                match = route.path_regex.match(path)
                if match is not None:
                    scope["path_params"] = match.groupdict()
                    return route, demand
        return None

    def _handler(self, error: Exception) -> ExceptionHandler | None:
        """The service's handler of such a failure; None without one."""
        known = (self._handlers.get(kind) for kind in type(error).__mro__)
        return next(filter(None, known), None)


class _UnknownNameError(Exception):
    """A query has a name that is no parameter."""


def _query_reader(model: Any, names: frozenset[str]) -> ReadQuery:
    """Make a function that reads a query string into the model, a class, as FastAPI would.

    The function raises `ValidationError`, and `_UnknownNameError` for one that is not in `names`.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"a hot route takes its query as one model, not as {model}")
    lists = {
        name for name, field in model.model_fields.items() if get_origin(field.annotation) is list
    }

    def read(query: bytes) -> BaseModel:
        values: dict[str, Any] = {}
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            if name in lists:
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
        if unknown_parameters(values, names):
            raise _UnknownNameError
        return model.model_validate(values)

    remembered = lru_cache(_REMEMBERED)(read)
    return lambda query: (remembered if len(query) <= _LONGEST_REMEMBERED else read)(query)


def _is_json(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return kind.partition(b";")[0].strip().lower() == b"application/json"


def _prefix(route: Route) -> str:
    return route.path.partition("{")[0]


def _require_alone(route: HotRoute, routes: Iterable[Route]) -> None:
    """Raise `TypeError` where the order of routes would decide which of two answers."""
    begin = _prefix(route)
    for other in routes:
        same_method = (other.methods or set()) & (route.methods or set())
        if other is route or not same_method:
            continue
        if other.path_regex.match(route.path) or (
            route.param_convertors and other.path.startswith(begin)
        ):
            raise TypeError(f"{other.path} has paths of the hot route {route.path}")


# Headers by which a proxy tells of its client.
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})


class HotCycle:
    """A request of a hot route and its answer, in the place of uvicorn's cycle. Nobody waits for
    `message_event`, by which uvicorn tells that the client has left.
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
