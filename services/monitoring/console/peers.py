"""What the console asks other services through monitoring, as a table, and how it is asked.

Pages reach monitoring alone. It asks with its own token of the scope `read`, so the table holds no
route that needs more. Each route demands of the person what it demands there.

A service decodes a path before it looks for the route, so the slash in an id may lead to another
route. Where monitoring's token is the API token, that would be answered whatever it demands. So the
table holds no route with paths of one that demands more, as users' has.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

import httpx

from slipstream.chassis.client import Bearer

# Requests to other services at once; more wait.
MOST_AT_ONCE: Final = 32
# Seconds for an answer, with the wait for a turn.
TIMEOUT_S: Final = 5.0
# Bytes of an answer, and of a request's body.
MOST_BYTES: Final = 1_048_576
_JSON: Final = ("application/json", "application/problem+json")


class PeerRoute(NamedTuple):
    """A route of another service, which demands the scope `read` there and here."""

    service: str
    method: str
    path: str


ROUTES: Final = (
    PeerRoute("features", "GET", "/v1/feature-views"),
    PeerRoute("features", "GET", "/v1/features/{view}/{entity_id:path}"),
    PeerRoute("features", "GET", "/v1/visitors"),
    PeerRoute("features", "GET", "/v1/items"),
    PeerRoute("features", "GET", "/v1/items/{item_id:path}"),
    PeerRoute("serving", "POST", "/v1/previews"),
    PeerRoute("serving", "GET", "/v1/items:search"),
    PeerRoute("serving", "GET", "/v1/recommendations/{user_id:path}"),
    PeerRoute("serving", "GET", "/v1/similar/{item_id:path}"),
    PeerRoute("serving", "GET", "/v1/bought-together/{item_id:path}"),
    PeerRoute("serving", "GET", "/v1/recently-viewed/{user_id:path}"),
    PeerRoute("serving", "GET", "/v1/users-for-item/{item_id:path}"),
    PeerRoute("serving", "GET", "/v1/trending"),
)


class PeerUnavailableError(Exception):
    """A service did not answer in time, or not in a way that can be passed on."""


class PeerAnswer(NamedTuple):
    """An answer to pass on: status, type and bytes of the body, and when to ask again."""

    status: int
    media_type: str
    content: bytes
    retry_after: str


class PeerClient:
    """Asks other services, a few requests at once. Used in one event loop.

    Args:
        token: Returns the credential of a request.
        transport: Transport of a test.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        token: Callable[[], str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._urls = urls
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S, auth=Bearer(token), transport=transport, trust_env=False
        )
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def ask(
        self,
        route: PeerRoute,
        values: Mapping[str, str],
        query: bytes,
        body: bytes,
        request_id: str,
    ) -> PeerAnswer:
        """The answer of a service. Raises `PeerUnavailableError`.

        Args:
            values: Values of the parameters in its path, as they are.
            body: A JSON body; empty for none.
        """
        path = path_of(route.path, values)
        target = path.encode() + (b"?" + query if query else b"")
        headers = {"X-Request-Id": request_id} if request_id.isascii() else {}
        if body:
            headers["Content-Type"] = "application/json"
        url = httpx.URL(self._urls[route.service]).copy_with(raw_path=target)
        try:
            async with asyncio.timeout(TIMEOUT_S), self._turns:
                request = self._client.build_request(
                    route.method, url, headers=headers, content=body or None
                )
                answer = await self._client.send(request, stream=True)
                try:
                    return await _read(route.service, answer)
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            raise PeerUnavailableError(
                f"{route.service} did not answer within {TIMEOUT_S:g} s"
            ) from error
        except httpx.HTTPError as error:
            raise PeerUnavailableError(
                f"{route.service} does not answer: {type(error).__name__}"
            ) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def _read(service: str, answer: httpx.Response) -> PeerAnswer:
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
    if answer.status_code in (401, 403):
        # To the page it would say that the person may not, who was judged here.
        raise PeerUnavailableError(f"{service} refuses monitoring's own token")
    if media_type not in _JSON:
        raise PeerUnavailableError(f"{service} answered {answer.status_code} without JSON")
    content = bytearray()
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > MOST_BYTES:
            raise PeerUnavailableError(
                f"{service} answered more than {MOST_BYTES} bytes: ask for less"
            )
    retry_after = answer.headers.get("retry-after", "")
    return PeerAnswer(answer.status_code, media_type, bytes(content), retry_after)


def path_of(template: str, values: Mapping[str, str]) -> str:
    """The path with these values, whatever characters they have.

    A value stays one part of the path: its slashes are escaped, and so is one of dots alone, which
    clients take for another folder.
    """
    parts = []
    for part in template.split("/"):
        if part.startswith("{"):
            value = quote(values[part.strip("{}").partition(":")[0]], safe="")
            parts.append(value if value.strip(".") else value.replace(".", "%2E"))
        else:
            parts.append(part)
    return "/".join(parts)
