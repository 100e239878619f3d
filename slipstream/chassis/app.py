"""The HTTP app of a service: middleware, error bodies, health, metrics, workers, graceful stop.

The page of its API for people is Swagger UI, with all files from here: a CDN would learn who reads
the page, and could change it.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.chassis import health, metrics
from slipstream.chassis.access.guard import Demands, Guard, KnownHosts, open_to_all, routes_of
from slipstream.chassis.access.keys import KeyRing, KnownKey
from slipstream.chassis.access.sessions import Sessions
from slipstream.chassis.access.verifier import Verifier, api_token_key, refuse_exposure
from slipstream.chassis.connections import RequestLog
from slipstream.chassis.ending import Ending
from slipstream.chassis.errors import NotFoundError, install_error_handlers, unexpected
from slipstream.chassis.hot_routes import HotRoutes
from slipstream.chassis.logging import request_id
from slipstream.chassis.opening import Lifespan, opening
from slipstream.chassis.request_names import refuse_unknown_parameters, taking_any_name
from slipstream.chassis.settings import ServiceSettings, listed
from slipstream.chassis.worker import Workers

PATH: Final = "/docs"
# Swagger UI's part of the package; the package's own app would also serve another page.
_FOLDER: Final = Path(str(files("fastapi_offline"))) / "static"
_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
# FastAPI's page begins Swagger UI in a line of its own, which sets styles and has pictures inside.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)

page_router = APIRouter(
    include_in_schema=False,
    route_class=taking_any_name("a link to a page may carry anything"),
)


@page_router.get("/")
@open_to_all
async def index(request: Request) -> dict[str, str]:
    """What answers here, and where to read on."""
    return {
        "service": request.app.title,
        "version": version("slipstream"),
        "docs": PATH,
        "ready": health.READY,
    }


@page_router.get(PATH)
@open_to_all
async def page(request: Request) -> HTMLResponse:
    """The page, which reads `/openapi.json`."""
    shown = get_swagger_ui_html(
        openapi_url=request.app.openapi_url,
        title=request.app.title,
        swagger_js_url=f"{PATH}/{_SCRIPT}",
        swagger_css_url=f"{PATH}/{_STYLE}",
        swagger_favicon_url=f"{PATH}/{_ICON}",
    )
    shown.headers["Content-Security-Policy"] = _POLICY
    return shown


@page_router.get(f"{PATH}/{{name}}")
@open_to_all
async def file(name: str) -> FileResponse:
    """A file of the page."""
    if name not in (_SCRIPT, _STYLE, _ICON):
        raise NotFoundError(f"{PATH} has no file {name!r}")
    return FileResponse(_FOLDER / name)


# Status that is counted when a client leaves before its request is complete. HTTP has none; this is
# nginx's.
CLIENT_GONE = 499


class RequestMiddleware:
    """Gives each request an id, times it, and logs failures and slow answers.

    The id is the caller's `X-Request-Id`, or a new one. Plain ASGI, since Starlette's
    BaseHTTPMiddleware costs as much as a whole small route.
    """

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self.app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        rid = self._log.id_of(scope)
        token = request_id.set(rid)
        status = 0
        seconds: float | None = None
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status = message["status"]
                if _is_event_stream(message):
                    # It lasts for as long as somebody watches, which is not its time to answer.
                    seconds = time.perf_counter() - started
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", rid.encode("latin-1")),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:  # no client is left to answer
            status = CLIENT_GONE
        except Exception as error:
            self._log.failed(scope, error)
            # Once the answer has begun, it can only be cut off.
            if status:
                raise
            await unexpected(error)(scope, receive, send_with_id)
        finally:
            if seconds is None:
                seconds = time.perf_counter() - started
            self._log.ended(scope, status or 500, seconds)
            request_id.reset(token)


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def operation_id(route: APIRoute) -> str:
    """The id of a route's operation in the OpenAPI document: the name of its function.

    Generated clients call their methods by it, so it stays when a path changes. A function of two
    paths names the second route itself.
    """
    return route.name


class ServiceApp(FastAPI):
    """An app with the last added layer as its outermost one.

    FastAPI puts three more around it, for each request: a plain answer to failures, telemetry and a
    limit of bodies. The request middleware and the guard have their own, and the rest is unused.
    """

    def build_middleware_stack(self) -> ASGIApp:
        layer: Any = super().build_middleware_stack()
        outermost: Any = self.user_middleware[0].cls
        while type(layer) is not outermost:
            layer = layer.app
        stack: ASGIApp = layer
        return stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        stack = self.middleware_stack
        if stack is None:
            stack = self.middleware_stack = self.build_middleware_stack()
        await stack(scope, receive, send)


def create_service(
    name: str,
    settings: ServiceSettings,
    *,
    description: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    guarded: bool = True,
    keys: Mapping[str, KnownKey] = MappingProxyType({}),
    sessions: Sessions | None = None,
) -> FastAPI:
    """Build the app of a service.

    `app.state` holds `settings`, `metrics`, `health`, `workers`, `ending`, `on_stop`, `keys`,
    `verifier`, `guard`, `place`, `siblings` and `hot_routes` before `lifespan` is entered. The
    lifespan opens connections, puts them on `app.state`, adds readiness checks to
    `app.state.health`, starts workers by `app.state.workers`, and closes all of it on stop.

    Where a server is down, the lifespan raises `DependencyUnavailableError` and is entered again
    later. So it closes what it has opened by then, and registers metrics only when every server
    has answered.

    Args:
        routers: Routes of the service, each of which declares the scope that it needs.
        guarded: Whether the chassis asks for credentials, and limits bodies to
            `http.max_body_bytes`. A service without does both itself.
        keys: Configured keys by digest, besides the API token.
        sessions: Sessions that the service takes in the place of credentials. Its origin then has
            no index, and no page of the API: that runs scripts in the page, which a session must
            not meet.

    Raises:
        ExposedError: The service would listen beyond this machine without asking for credentials.
        TokenKeysError: The file of public keys can't be read.
        UndeclaredRouteError: A route does not declare what it needs.
    """
    if guarded:
        refuse_exposure(settings)
    app = ServiceApp(
        # A redirect would lead to whichever host the request names.
        redirect_slashes=False,
        title=f"Slipstream {name}",
        description=description,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=partial(opening, lifespan=lifespan),
        generate_unique_id_function=operation_id,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    app.state.settings = settings
    app.state.metrics = metrics.Metrics(name)
    if settings.tracing.otlp_url:
        # OpenTelemetry takes memory and a part of a second to load.
        from slipstream.chassis.tracing import Tracing

        app.state.metrics.tracing = Tracing(settings, name, app.state.metrics.registry)
    app.state.health = health.Health()
    app.state.ending = Ending()
    # Called in the event loop as soon as a stop begins, so that answers without an end find one.
    app.state.on_stop = []
    # Changed where several processes serve: see `processes`.
    app.state.place, app.state.siblings = 0, ()
    app.state.workers = Workers(
        app.state.health, app.state.metrics.worker_restarts, app.state.ending.ask
    )
    install_error_handlers(app, name)
    app.include_router(health.router)
    app.include_router(metrics.router)
    if sessions is None:
        app.include_router(page_router)
    for router in routers:
        app.include_router(router)
    demands = Demands(routes_of(app))
    log = RequestLog(app.state.metrics, demands)
    app.state.keys = KeyRing({**api_token_key(settings), **keys})
    app.state.verifier = Verifier(app.state.keys, settings)
    guard = None
    if guarded:
        judged: dict[str, Any] = {
            "verifier": app.state.verifier,
            "demands": demands,
            "hosts": KnownHosts(_names_of(settings, name)),
            "max_body_bytes": settings.http.max_body_bytes,
            "sessions": sessions,
        }
        guard = Guard(app, **judged)
        app.add_middleware(Guard, **judged)
    app.state.guard = guard
    app.add_middleware(RequestMiddleware, log=log)
    app.state.hot_routes = HotRoutes(
        app,
        routes_of(app),
        app.exception_handlers,
        log,
        app.state.health.is_waiting,
        guard,
    )
    return app


def _names_of(settings: ServiceSettings, name: str) -> list[str]:
    """Names of this service: the configured ones, and the one that its peers call it by."""
    called = urlsplit(getattr(settings.peers, f"{name}_url", "")).hostname
    return [*listed(settings.http.hosts), *([called] if called else [])]


class _PageOrigins(CORSMiddleware):
    """CORS for requests with an `Origin` header.

    Only browsers send one for pages. Other clients read no CORS headers, so they need not wait for
    them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


def let_pages_read(app: FastAPI, origins: str, **rights: Any) -> None:
    """Let pages of these origins read the answers of an app of `create_service`. `origins` are
    separated by commas; `*` for all, empty for none. `rights` are further options of
    `CORSMiddleware`.
    """
    if allowed := listed(origins):
        app.add_middleware(_PageOrigins, allow_origins=allowed, **rights)
        app.state.hot_routes.pass_through(_PageOrigins, allow_origins=allowed, **rights)
