"""Routes that are answered without FastAPI's handling, for the busiest endpoints.

That handling costs more than a short answer. FastAPI documents these routes, and its declarations
say how their parameters are read. A request whose parameters are not as declared goes on to
FastAPI, so that the answer to it is the same as without this layer.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, get_origin
from urllib.parse import parse_qsl

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Queries that are remembered with what they were read as: clients send the same few again and
# again. Longer ones are read anew, so that they hold no memory.
_REMEMBERED: Final = 1_024
_LONGEST_REMEMBERED: Final = 128

ReadQuery = Callable[[bytes], BaseModel]
ExceptionHandler = Callable[[Request, Any], Any]
ExceptionHandlers = Mapping[Any, ExceptionHandler]


class DirectRoute(APIRoute):
    """A route that `DirectRoutes` answers.

    Its endpoint is a coroutine that takes the request, and returns a response. It may also take
    parameters of the path, one model of the query, and one model of a JSON body. A query's model is
    shared by requests: don't change it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        dependant = self.dependant
        others = (dependant.dependencies, dependant.header_params, dependant.cookie_params)
        if any(others) or len(dependant.query_params) > 1 or self._embed_body_fields:
            raise TypeError(f"{self.path}: a direct route takes path, one query and one body")
        self._request = dependant.request_param_name
        self._of_path = dependant.path_params
        self._query = [
            (field.name, _query_reader(field.field_info.annotation))
            for field in dependant.query_params
        ]

    async def arguments(self, request: Request) -> dict[str, Any] | None:
        """The endpoint's arguments; None where the request is not as they are declared."""
        found: dict[str, Any] = {self._request: request} if self._request else {}
        for field in self._of_path:
            found[field.name], faults = field.validate(request.scope["path_params"][field.name])
            if faults:
                return None
        try:
            for name, read in self._query:
                found[name] = read(request.scope["query_string"])
            if self.body_field is not None:
                body = await request.body()
                if not _is_json(request.headers):
                    return None
                value, faults = self.body_field.validate(orjson.loads(body))
                if faults:
                    return None
                found[self.body_field.name] = value
        except (ValidationError, orjson.JSONDecodeError):
            return None
        return found


class DirectRoutes:
    """ASGI layer before FastAPI's routing, which answers the direct routes.

    Args:
        app: FastAPI's routing with its handlers of exceptions.
        routes: All routes of the service.
        handlers: Those handlers, by class of exception.
        closed: Whether the service waits to open, and refuses requests by its routing.

    Raises:
        TypeError: Another route's path is one of a direct route's.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[Route],
        handlers: ExceptionHandlers,
        closed: Callable[[], bool],
    ) -> None:
        self.app = app
        self._handlers, self._closed = handlers, closed
        known = list(routes)
        self._exact: dict[tuple[str, str], DirectRoute] = {}
        self._by_prefix: list[tuple[str, DirectRoute]] = []
        for route in known:
            if not isinstance(route, DirectRoute):
                continue
            _require_alone(route, known)
            if route.param_convertors:
                self._by_prefix.append((_prefix(route), route))
            else:
                self._exact |= {(method, route.path): route for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None or self._closed():
            await self.app(scope, receive, send)
            return
        # The request middleware takes the path from the route, for its metrics.
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            arguments = await route.arguments(request)
            response = None if arguments is None else await route.endpoint(**arguments)
        except Exception as error:
            handler = self._handler(error)
            # Raised here and not in a call that has the error as its argument: error and frame
            # would hold each other, and with them the body.
            if handler is None:
                raise
            response = await handler(request, error)
        if response is None:
            again = receive if route.body_field is None else _again(await request.body(), receive)
            await self.app(scope, again, send)
            return
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> DirectRoute | None:
        path, method = scope["path"], scope["method"]
        exact = self._exact.get((method, path))
        if exact is not None:
            scope["path_params"] = {}
            return exact
        for prefix, route in self._by_prefix:
            if path.startswith(prefix) and method in (route.methods or ()):
                match = route.path_regex.match(path)
                if match is not None:
                    scope["path_params"] = match.groupdict()
                    return route
        return None

    def _handler(self, error: Exception) -> ExceptionHandler | None:
        """The service's handler of such a failure; None without one."""
        known = (self._handlers.get(kind) for kind in type(error).__mro__)
        return next(filter(None, known), None)


def _query_reader(model: Any) -> ReadQuery:
    """Make a function that reads a query string into the model, a class, as FastAPI would.

    The function raises `ValidationError`.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"a direct route takes its query as one model, not as {model}")
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
        return model.model_validate(values)

    remembered = lru_cache(_REMEMBERED)(read)
    return lambda query: (remembered if len(query) <= _LONGEST_REMEMBERED else read)(query)


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _prefix(route: Route) -> str:
    return route.path.partition("{")[0]


def _require_alone(route: DirectRoute, routes: Iterable[Route]) -> None:
    """Raise `TypeError` where the order of routes would decide which of two answers."""
    begin = _prefix(route)
    for other in routes:
        same_method = (other.methods or set()) & (route.methods or set())
        if other is route or not same_method:
            continue
        if other.path_regex.match(route.path) or (
            route.param_convertors and other.path.startswith(begin)
        ):
            raise TypeError(f"{other.path} has paths of the direct route {route.path}")


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with a body that has been read."""
    read = False

    async def received() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received
