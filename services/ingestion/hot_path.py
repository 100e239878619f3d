"""The shortest way to what is called for every event: by its path alone, past the framework's
routing and its layers, which cost more than reading an event does. What is not found here goes the
usual way; so does the documentation. And past what only pages need, for who is not one.
"""

from collections.abc import Awaitable, Callable

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slipstream.chassis.errors import ServiceError, problem_of

Endpoint = Callable[[Request], Awaitable[Response]]


class PageOrigins(CORSMiddleware):
    """CORS for requests of pages. Others name no origin, and need not pay for a header on the
    answer that nobody reads.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by its `scope["route"]`, whose endpoint takes the request as it is and
    returns a response.
    """
    endpoint: Endpoint = scope["route"].endpoint
    try:
        response = await endpoint(Request(scope, receive, send))
    except ServiceError as error:
        response = problem_of(error)
    await response(scope, receive, send)
