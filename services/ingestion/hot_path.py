"""The shortest way to what is called for every event: by its path alone, past the framework's routing and its layers, which cost
more than reading an event does. What is not found here goes the usual way; so does the documentation. And past what only pages
need, for who is not one."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slipstream.chassis.errors import ServiceError, problem_of

Endpoint = Callable[[Request], Awaitable[Response]]


class PageOrigins(CORSMiddleware):
    """CORS for requests of pages. Others name no origin, and need not pay for a header on the answer that nobody reads."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


class HotPath:
    """Answers requests for `routes`, which have a path without parameters, and an endpoint that takes the request as it is and
    returns a response."""

    def __init__(self, routes: Iterable[Any]) -> None:
        self._routes = {(method, route.path): route for route in routes for method in route.methods}

    def serves(self, scope: Scope) -> bool:
        return scope["type"] == "http" and (scope["method"], scope["path"]) in self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["route"] = self._routes[scope["method"], scope["path"]]  # names the request in the metrics
        endpoint: Endpoint = route.endpoint
        try:
            response = await endpoint(Request(scope, receive, send))
        except ServiceError as error:
            response = problem_of(error)
        await response(scope, receive, send)
