"""An instance that stands by: requests that reach it are handed to the one that acts.

A load balancer may so count it as ready and send it requests, before it has anything to answer
with. Credentials are judged by the instance that acts: this one knows no keys yet.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from slipstream.chassis.errors import UnavailableError, problem_of
from slipstream.chassis.logging import TracedId, get_logger, request_id
from slipstream.chassis.settings import HttpSettings

log = get_logger(__name__)

# Paths that are answered by the instance itself, as usual, while it waits or stands by.
OBSERVED: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
# Marks a request that was handed on, so that two instances that change roles hand it on once.
_MARK: Final = b"x-slipstream-handed-on"
# Headers of one connection, and those that this instance sets itself.
_NOT_HANDED_ON: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"x-request-id",
    }
)  # fmt: skip
_CONNECT_S: Final = 2.0
# Longest silence of the acting instance: some changes take it a minute.
_SILENCE_S: Final = 120.0
RETRY_AFTER_S: Final = 5


class StandingByError(UnavailableError):
    """Another instance acts, and it alone takes requests: also reads, which it answers as well."""

    code, title = "standby", "Another instance answers"


class Standby:
    """Where the instance is that acts; `address` is empty while this one does, or none is known."""

    def __init__(self) -> None:
        self.address = ""
        self._client: httpx.AsyncClient | None = None
        self._stopping = asyncio.Event()

    @property
    def client(self) -> httpx.AsyncClient:
        """The client of requests that are handed on."""
        if self._client is None:
            timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
            # The server bounds its connections, and so these: with fewer, a hundred streams of
            # events would keep every other request waiting.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        return self._client

    def end_streams(self) -> None:
        """End the streams of events that are handed on; their clients connect again."""
        self._stopping.set()

    async def pass_stream(self, answer: httpx.Response, receive: Receive, send: Send) -> None:
        """Pass a stream of events on until its end, or until its client has left, this instance
        stops, or the acting one has gone.

        Nothing else tells that the client has left: the acting instance would send on.
        """
        passing = asyncio.create_task(_pass_on(answer, send))
        ends = (_left(receive), self._stopping.wait())
        tasks = [passing, *map(asyncio.ensure_future, ends)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not passing.cancelled() and (error := passing.exception()) is not None:
            if not isinstance(error, httpx.TransportError):
                raise error
            log.info("a stream ends with the acting instance", reason=repr(error))

    async def aclose(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.aclose()


class HandingOn:
    """ASGI layer before the guard: while an instance stands by, another one answers."""

    def __init__(self, app: ASGIApp, standby: Standby) -> None:
        self.app, self._standby = app, standby

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = self._standby.address
        if not address or scope["type"] != "http" or scope["path"] in OBSERVED or _marked(scope):
            await self.app(scope, receive, send)
            return
        rid = request_id.get()
        # Before those of the client: of a header that is there twice, the first counts.
        own = [(b"x-request-id", rid.encode("latin-1"))]
        if type(rid) is TracedId:
            own.append((b"traceparent", rid.traceparent.encode()))
        request = self._standby.client.build_request(
            scope["method"],
            httpx.URL(f"http://{address}").copy_with(raw_path=_raw_path(scope)),
            headers=[
                *own,
                *((name, value) for name, value in scope["headers"] if name not in _NOT_HANDED_ON),
                (_MARK, b"1"),
            ],
            content=_body(receive),
        )
        try:
            answer = await self._standby.client.send(request, stream=True)
        except httpx.TransportError as error:
            log.warning("the acting instance does not answer", address=address, reason=repr(error))
            gone = StandingByError(
                f"This instance stands by, and the one at {address} does not answer",
                retry_after_s=RETRY_AFTER_S,
            )
            await problem_of(gone)(scope, receive, send)
            return
        try:
            headers = [pair for pair in answer.headers.raw if pair[0].lower() not in _NOT_HANDED_ON]
            await send(
                {"type": "http.response.start", "status": answer.status_code, "headers": headers}
            )
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                await self._standby.pass_stream(answer, receive, send)
            else:
                await _pass_on(answer, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await answer.aclose()


async def _pass_on(answer: httpx.Response, send: Send) -> None:
    async for part in answer.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def own_address(settings: HttpSettings, port: int) -> str:
    """The address at which other instances reach this one; empty where none is advertised.

    `port` is the service's own, for settings that name none.
    """
    host = settings.advertised_host
    if not host:
        return ""
    return f"{f'[{host}]' if ':' in host else host}:{settings.port or port}"


def _marked(scope: Scope) -> bool:
    return any(name == _MARK for name, _ in scope["headers"])


def _raw_path(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body"):
            return
