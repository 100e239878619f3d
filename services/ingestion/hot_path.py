"""Fast path for event routes.

FastAPI's routing and middleware cost more than parsing an event. So `app.Collector` finds these
routes by method and path, and `answer` calls them directly. Other requests take the normal route.
Requests without an `Origin` header also skip CORS.
"""

from collections.abc import Awaitable, Callable

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slipstream.chassis.errors import ServiceError, problem_of

Endpoint = Callable[[Request], Awaitable[Response]]


class PageOrigins(CORSMiddleware):
    """CORS for requests with an `Origin` header.

    Only browsers send one for pages. Other clients read no CORS headers, so they need not wait for
    them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the endpoint of `scope["route"]`, which takes a request and returns a response."""
    endpoint: Endpoint = scope["route"].endpoint
    try:
        response = await endpoint(Request(scope, receive, send))
    except ServiceError as error:
        response = problem_of(error)
    await response(scope, receive, send)
