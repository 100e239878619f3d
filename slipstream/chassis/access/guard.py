"""The guard before a service's routes: credentials and scope, origin, and the size of a body.

All are checked before a body is read.
"""

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.chassis.access.demands import Demand, Demands
from slipstream.chassis.access.origins import SAFE_METHODS, KnownHosts
from slipstream.chassis.access.verifier import ANYBODY, Verifier
from slipstream.chassis.errors import (
    ForbiddenError,
    ServiceError,
    TooLargeError,
    UnauthorizedError,
    problem_of,
)
from slipstream.contracts.access import Principal

_PRINCIPAL = "slipstream.principal"


def principal_of(request: HTTPConnection) -> Principal:
    """The holder of the credentials that came with a guarded request."""
    principal: Principal = request.scope[_PRINCIPAL]
    return principal


class Guard:
    """Answers 401 to requests without credentials, 403 to those that may not, 413 to large bodies,
    and 429 to wrong credentials after others from the same address.

    What a route needs is in `demands`. Requests that change something, and all requests to a
    service that asks for no credentials, must name it as one of `hosts`, and come from no page of
    another origin. Plain ASGI, since FastAPI reads the whole body before it asks a dependency.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier,
        demands: Demands,
        hosts: KnownHosts,
        max_body_bytes: int,
    ) -> None:
        self.app = app
        self._verifier, self._demands, self._hosts = verifier, demands, hosts
        self._most = max_body_bytes
        self._too_large = (
            f"The body has more than {self._most} bytes "
            "(SLIPSTREAM_HTTP__MAX_BODY_BYTES on the server)"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        demand = self._demands.of(scope)
        refusal = self._refusal(scope, demand) if demand and demand.scope else None
        if refusal is not None:
            await problem_of(refusal)(scope, receive, send)
            return
        if self._announces_too_much(scope):
            # The connection closes, so that the rest of the body need not be read.
            await problem_of(TooLargeError(self._too_large, headers={"Connection": "close"}))(
                scope, receive, send
            )
            return
        # Counted in any case: a parser may read chunks past the length that was announced.
        await self.app(scope, self._counted(receive), send)

    def lets_pass(self, scope: Scope, demand: Demand) -> bool:
        """Whether a request to a route with this demand may go on. Notes who sent it.

        One that may not is judged again on its way through the app, which counts wrong credentials.
        """
        refused = (
            demand.scope is not None and self._refusal(scope, demand, counts=False) is not None
        )
        return not refused and not self._announces_too_much(scope)

    def _announces_too_much(self, scope: Scope) -> bool:
        announced = _header(scope, b"content-length")
        # Zeros at the front are cut off, and digits that no limit has: a long number costs nothing.
        return announced is not None and (
            not announced.isdigit() or int(announced.lstrip(b"0")[:20] or b"0") > self._most
        )

    def _refusal(self, scope: Scope, demand: Demand, *, counts: bool = True) -> ServiceError | None:
        """Why the request may not go on; None where it may. Notes who sent it.

        A wrong credential is counted where `counts`, and refused as one of many.
        """
        if scope["method"] not in SAFE_METHODS or not self._verifier.required:
            foreign = self._hosts.check(_header(scope, b"host"), _header(scope, b"origin"))
            if foreign is not None:
                return foreign
        scheme, _, given = (_header(scope, b"authorization") or b"").partition(b" ")
        known = (
            self._verifier.find(given.decode("latin-1")) if scheme.lower() == b"bearer" else None
        )
        principal = known.principal if known is not None else None
        if principal is None:
            if self._verifier.required:
                missing = UnauthorizedError(
                    "Send a key, a token, or the API token: 'Authorization: Bearer …' "
                    "(SLIPSTREAM_HTTP__API_TOKEN on the server)",
                    headers={"WWW-Authenticate": 'Bearer realm="slipstream"'},
                )
                client = scope.get("client")
                address = client[0] if client else ""
                return self._verifier.refusal(address, missing) if given and counts else missing
            principal = ANYBODY
        if not demand.is_met_by(principal.scopes):
            return ForbiddenError(
                f"{principal.name} lacks the scope {demand.scope}; docs/security.md lists what "
                "each route needs",
                code="scope_missing",
            )
        scope[_PRINCIPAL] = principal
        return None

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
