"""Build and run a service's HTTP app: middleware, error bodies, health, metrics, workers, graceful
stop.
"""

import gc
import logging
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.chassis import health, metrics
from slipstream.chassis.ending import Ending
from slipstream.chassis.errors import install_error_handlers, unexpected
from slipstream.chassis.guard import Guard
from slipstream.chassis.logging import get_logger, request_id
from slipstream.chassis.opening import Lifespan, opening
from slipstream.chassis.settings import ServiceSettings
from slipstream.chassis.worker import Workers
from slipstream.contracts.services import SERVICES

log = get_logger(__name__)

SLOW_REQUEST_S = 1.0
# What is counted when the client went away before all of its request was there; nginx's number,
# since HTTP has none.
CLIENT_GONE = 499


class RequestMiddleware:
    """Gives each request its id (the caller's `X-Request-Id`, or a new one), times it, and logs
    failures and slowness.

    Plain ASGI, since Starlette's BaseHTTPMiddleware costs as much as a whole small route.
    """

    def __init__(self, app: ASGIApp, measured: metrics.Metrics) -> None:
        self.app = app
        self.seconds = measured.http_seconds
        self._children: dict[tuple[str, str, int], Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Random by arithmetic: asking the system would let another thread take the interpreter in
        # every request.
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        rid = given.decode("latin-1")[:64] or f"{random.getrandbits(128):032x}"
        token = request_id.set(rid)
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", rid.encode("latin-1")),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:  # nobody is left to answer
            status = CLIENT_GONE
        except Exception as error:
            log.error("request failed", method=scope["method"], path=scope["path"], exc_info=error)
            if status:  # the answer had begun: all that is left is to cut the connection
                raise
            await unexpected(error)(scope, receive, send_with_id)
        finally:
            self._observe(scope, status or 500, time.perf_counter() - started)
            request_id.reset(token)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        key = (route, scope["method"], status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.seconds.labels(*map(str, key))
        child.observe(seconds)
        if route == health.READY and status == 503 and not log.is_enabled_for(logging.DEBUG):
            return  # it is asked every few seconds, and its body says why
        if status >= 500 or seconds > SLOW_REQUEST_S:
            emit = log.warning
        elif status >= 400:
            emit = log.info
        elif log.is_enabled_for(logging.DEBUG):
            emit = log.debug
        else:
            return
        emit(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
        )


def create_service(
    name: str,
    settings: ServiceSettings,
    *,
    description: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    token_protected: bool = True,
    kind: type[FastAPI] = FastAPI,
) -> FastAPI:
    """A service's app.

    `lifespan` opens what the service needs, puts it on `app.state`, adds readiness checks to
    `app.state.health`, starts workers by `app.state.workers`, and closes all of it on stop.
    `app.state` already holds `settings`, `metrics`, `health`, `workers` and `ending` by then. Where
    a server is away it raises `DependencyUnavailableError` and is entered again later: it closes
    what it has opened by then, and registers metrics only when nothing can be away any more.

    The routes of `routers` ask for the API token, those that are included afterwards do not, and no
    body is taken that is larger than `http.max_body_bytes`. A service that is not `token_protected`
    looks after both itself. `kind` is the app's class.
    """

    app = kind(
        title=f"Slipstream {name}",
        description=description,
        version="1",
        lifespan=partial(opening, lifespan=lifespan),
    )
    app.state.settings = settings
    app.state.metrics = metrics.Metrics(name)
    app.state.health = health.Health()
    app.state.ending = Ending()
    app.state.workers = Workers(
        app.state.health, app.state.metrics.worker_restarts, app.state.ending.ask
    )
    install_error_handlers(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    without_token = len(app.router.routes)
    for router in routers:
        app.include_router(router)
    if token_protected:
        app.add_middleware(
            Guard, settings=settings.http, protected=app.router.routes[without_token:]
        )
    app.add_middleware(RequestMiddleware, measured=app.state.metrics)
    return app


def serve(app: FastAPI, settings: ServiceSettings, name: str) -> None:
    """Run until SIGTERM or SIGINT; then answer what is under way, close, and return. Where the
    service itself asked for its end, the process ends with status 1.
    """
    config = uvicorn.Config(
        app,
        host=settings.http.host,
        port=settings.http.port or SERVICES[name].port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.http.shutdown_grace_s,
        backlog=2048,
    )
    # What is loaded by now stays for good: spare the garbage collector from looking through all of
    # it after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(getattr(app.state, "collect_after", 10_000), 20, 50)
    server = uvicorn.Server(config)
    ending: Ending = getattr(app.state, "ending", None) or Ending()
    ending.calls(lambda: setattr(server, "should_exit", True))
    server.run()
    if ending.reason:
        raise SystemExit(1)
