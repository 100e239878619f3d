"""The scope that each route demands, and the guard before the routes.

Credentials, scope, origin and the size of a body are checked before a body is read. What a request
did is recorded for the audit. A page elsewhere may send requests to a service that its visitor
reaches: browsers name the page in `Origin`, and a name that was pointed at this machine (DNS
rebinding) stands in `Host`.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from slipstream.chassis.access.sessions import Sessions
from slipstream.chassis.access.verifier import ANYBODY, Verifier
from slipstream.chassis.errors import (
    ForbiddenError,
    ServiceError,
    TooLargeError,
    UnauthorizedError,
    problem_of,
)
from slipstream.chassis.logging import request_id
from slipstream.contracts.access import Principal, Scope
from slipstream.contracts.rest import AuditRecord

# Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class KnownHosts:
    """Names under which a service is reached.

    Addresses, `localhost` and names without dots are taken: no stranger can point those at this
    machine. Others are listed in the settings; `*` there takes any.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._knows = lru_cache(256)(self._look_up)

    def check(self, host: bytes | None, origin: bytes | None) -> ForbiddenError | None:
        """The error of a request with these headers; None where it may go on."""
        if host is not None and not self._knows(host.decode("latin-1")):
            return ForbiddenError(
                f"The service is not known as {host.decode('latin-1')!r}: list the name in "
                "SLIPSTREAM_HTTP__HOSTS on the server",
                code="foreign_host",
            )
        if origin is None:
            return None
        page = origin.decode("latin-1").partition("://")[2]
        own = host is not None and page == host.decode("latin-1")
        if own or (page and self._listed(_hostname(page))):
            return None
        return ForbiddenError(
            "Pages of other origins may not send this request; SLIPSTREAM_HTTP__HOSTS on the "
            "server lists those that may, and docs/tracker.md says how a page reads lists",
            code="foreign_origin",
        )

    def _listed(self, name: str) -> bool:
        return "*" in self._names or name in self._names

    def _look_up(self, host: str) -> bool:
        name = _hostname(host)
        if "." not in name and ":" not in name:
            return bool(name)
        return self._listed(name) or name.endswith(".localhost") or is_address(name)


def is_address(name: str) -> bool:
    """Whether this is an IP address rather than a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hostname(netloc: str) -> str:
    """The host in `host:port`, in lower case and without the brackets of IPv6; "" for nonsense."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


F = TypeVar("F", bound=Callable[..., Any])

_DEMAND: Final = "__slipstream_demand__"


class UndeclaredRouteError(TypeError):
    """A route says neither which scope it needs nor that it is open to all."""


class Demand(NamedTuple):
    """The scope that a route needs; None where it is open to all.

    The scope `also` opens it, too.
    """

    scope: Scope | None
    also: Scope | None = None

    def is_met_by(self, scopes: Collection[Scope]) -> bool:
        """Whether these scopes open the route."""
        return self.scope in scopes or self.also in scopes


def requires(scope: Scope, *, also: Scope | None = None) -> Callable[[F], F]:
    """Declare the scope that an endpoint needs. Stands below the route's own decorator.

    `also` is a scope that opens this route and few others, such as that of services or of pages.
    """

    def declare(endpoint: F) -> F:
        setattr(endpoint, _DEMAND, Demand(scope, also))
        return endpoint

    return declare


def open_to_all(endpoint: F) -> F:
    """Declare that an endpoint needs no credentials: it holds nothing that is not public."""
    setattr(endpoint, _DEMAND, Demand(None))
    return endpoint


def demand_of(route: Route) -> Demand:
    """The demand that a route's endpoint declares.

    FastAPI's own pages about the API are no `APIRoute`, and open to all. Raises
    `UndeclaredRouteError`.
    """
    if not isinstance(route, APIRoute):
        return Demand(None)
    declared: Demand | None = getattr(route.endpoint, _DEMAND, None)
    if declared is None:
        raise UndeclaredRouteError(
            f"{route.path}: declare @requires(Scope.…) or @open_to_all on {route.endpoint.__name__}"
        )
    return declared


def routes_of(app: FastAPI) -> Iterator[Route]:
    """Every route of an app, those of its routers among them."""

    def walk(routes: Iterable[BaseRoute]) -> Iterator[Route]:
        for route in routes:
            included = getattr(route, "original_router", None)
            if included is not None:
                yield from walk(included.routes)
            elif isinstance(route, Route):
                yield route

    return walk(app.router.routes)


class Demands:
    """The demands of a service's routes, found by a request's path and method.

    The service is served at the root, so that a request's path is its route's.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        # Open ones last: few requests are for them, and of two that match the stricter one counts.
        self._routes: list[tuple[Route, Demand]] = sorted(
            ((route, demand_of(route)) for route in routes), key=lambda entry: not entry[1].scope
        )

    def of(self, connection: Connection) -> Demand | None:
        """The demand of the route that answers this request; None where there is no such path.

        A wrong method on a known path has that path's demand.
        """
        found = self._find(connection)
        return None if found is None else found[1]

    def path_of(self, connection: Connection) -> str:
        """The path of that route, with the names of its parameters; empty where there is none."""
        found = self._find(connection)
        return "" if found is None else found[0].path

    def _find(self, connection: Connection) -> tuple[Route, Demand] | None:
        path, method = connection["path"], connection["method"]
        of_path: tuple[Route, Demand] | None = None
        for route, demand in self._routes:
            if route.path_regex.match(path):
                if method in (route.methods or ()):
                    return route, demand
                of_path = of_path or (route, demand)
        return of_path


_PRINCIPAL = "slipstream.principal"


def principal_of(request: HTTPConnection) -> Principal:
    """The holder of the credentials that came with a guarded request."""
    principal: Principal = request.scope[_PRINCIPAL]
    return principal


class Guard:
    """Answers 401 to requests without credentials, 403 to those that may not, 413 to large bodies,
    and 429 to wrong credentials after others from the same address.

    What a route needs is in `demands`. Requests that change something, and those without a key to
    a service that asks for none, must name it as one of `hosts`, and come from no page of another
    origin. Plain ASGI, since FastAPI reads the whole body before it asks a dependency.

    Where there are `sessions`, the cookie of one counts for a request without `Authorization` from
    a page of exactly this origin.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier,
        demands: Demands,
        hosts: KnownHosts,
        max_body_bytes: int,
        sessions: Sessions | None = None,
    ) -> None:
        self.app = app
        self._sessions = sessions
        self._verifier, self._demands, self._hosts = verifier, demands, hosts
        self._most = max_body_bytes
        self._too_large = (
            f"The body has more than {self._most} bytes "
            "(SLIPSTREAM_HTTP__MAX_BODY_BYTES on the server)"
        )

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
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

    def lets_pass(self, scope: Connection, demand: Demand) -> bool:
        """Whether a request to a route with this demand may go on. Notes who sent it.

        One that may not is judged again on its way through the app, which counts wrong credentials.
        """
        refused = (
            demand.scope is not None and self._refusal(scope, demand, counts=False) is not None
        )
        return not refused and not self._announces_too_much(scope)

    def _announces_too_much(self, scope: Connection) -> bool:
        announced = _header(scope, b"content-length")
        # Zeros at the front are cut off, and digits that no limit has: a long number costs nothing.
        return announced is not None and (
            not announced.isdigit() or int(announced.lstrip(b"0")[:20] or b"0") > self._most
        )

    def _refusal(
        self, scope: Connection, demand: Demand, *, counts: bool = True
    ) -> ServiceError | None:
        """Why the request may not go on; None where it may. Notes who sent it.

        A wrong credential is counted where `counts`, and refused as one of many.
        """
        scheme, _, given = (_header(scope, b"authorization") or b"").partition(b" ")
        known = (
            self._verifier.find(given.decode("latin-1")) if scheme.lower() == b"bearer" else None
        )
        open_to_anybody = not self._verifier.required and known is None
        by_session = None
        if self._sessions is not None and not scheme and self._verifier.required:
            by_session = self._sessions.of(scope, self._verifier)
            if isinstance(by_session, ServiceError):
                return by_session
            known = by_session[1] if by_session is not None else None
        if scope["method"] not in SAFE_METHODS or open_to_anybody or by_session is not None:
            foreign = self._hosts.check(_header(scope, b"host"), _header(scope, b"origin"))
            if foreign is not None:
                return foreign
        if known is not None and known.origins:
            origin = _header(scope, b"origin") or b""
            if origin.decode("latin-1") not in known.origins:
                return ForbiddenError(
                    "This key is not taken from this page's origin", code="foreign_origin"
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


def _header(scope: Connection, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def audit_record(
    request: HTTPConnection, action: str, subject: str, detail: dict[str, Any], at: int
) -> AuditRecord:
    """A record with the credentials' holder and the request's id. `at` is in ms."""
    return AuditRecord(
        at=at,
        principal=principal_of(request).name,
        action=action,
        subject=subject,
        detail=detail,
        request_id=request_id.get(),
    )
