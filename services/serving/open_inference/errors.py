"""Errors as the protocol has them: `{"error": …}`, whoever answers."""

from typing import Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.contracts.rest import PROBLEM_JSON

_PATH: Final = "/v2"
# Headers of a problem that are not those of the error that it becomes.
_REPLACED: Final = (b"content-type", b"content-length")


class ProtocolErrors:
    """The outermost layer of the app: below `/v2` it makes an `{"error": …}` of every problem.

    Problems come from routes, the guard, the router and the middleware that catches failures. So
    they are translated on their way out, and not where they arise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == _PATH or path.startswith(f"{_PATH}/")):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def translated(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is not None and message["type"] == "http.response.body":
                # A problem's body is one message.
                problem = orjson.loads(message["body"])
                body = orjson.dumps({"error": problem["detail"]})
                kept = [pair for pair in start["headers"] if pair[0] not in _REPLACED]
                start["headers"] = [
                    *kept,
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ]
                await send(start)
                start = None
                await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self.app(scope, receive, translated)


def _is_problem(start: Message) -> bool:
    kind = next((value for name, value in start["headers"] if name == b"content-type"), b"")
    return bool(kind.startswith(PROBLEM_JSON.encode()))
