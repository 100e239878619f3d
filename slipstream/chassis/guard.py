"""The guard before a service's routes: authentication, and the limit of a body's size.

Both are checked before a body is read.
"""

import hmac
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.chassis.errors import TooLargeError, UnauthorizedError, problem_of
from slipstream.chassis.settings import HttpSettings


class Guard:
    """Answers 401 to requests without the bearer token, and 413 to larger bodies.

    Only `protected` routes need the token, and none does where no token is set. A body may have
    `max_body_bytes`. Plain ASGI, since FastAPI reads the whole body before it asks a dependency.
    """

    def __init__(
        self, app: ASGIApp, settings: HttpSettings, protected: Sequence[BaseRoute]
    ) -> None:
        self.app = app
        self._token, self._most, self._protected = (
            settings.api_token.get_secret_value().encode(),
            settings.max_body_bytes,
            protected,
        )
        self._too_large = (
            f"The body has more than {self._most} bytes "
            "(SLIPSTREAM_HTTP__MAX_BODY_BYTES on the server)"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (
            self._token
            and not self._trusted(scope)
            and any(r.matches(scope)[0] is not Match.NONE for r in self._protected)
        ):
            await problem_of(
                UnauthorizedError(
                    "Send the API token: 'Authorization: Bearer …' "
                    "(SLIPSTREAM_HTTP__API_TOKEN on the server)"
                )
            )(scope, receive, send)
            return
        announced = _header(scope, b"content-length")
        # Zeros at the front are cut off, and digits that no limit has: a long number costs nothing.
        if announced is not None and (
            not announced.isdigit() or int(announced.lstrip(b"0")[:20] or b"0") > self._most
        ):
            # The connection closes, so that the rest of the body need not be read.
            await problem_of(TooLargeError(self._too_large, headers={"Connection": "close"}))(
                scope, receive, send
            )
            return
        # Counted in any case: a parser may read chunks past the length that was announced.
        await self.app(scope, self._counted(receive), send)

    def _trusted(self, scope: Scope) -> bool:
        scheme, _, given = (_header(scope, b"authorization") or b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given, self._token)

    def _counted(self, receive: Receive) -> Receive:
        """Count the bytes of a body, and fail when there are too many.

        FastAPI passes the exception on unchanged.
        """
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, self._too_large, {"Connection": "close"})
            return message

        return counted


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
