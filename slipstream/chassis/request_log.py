"""The log of requests: an id for each, its time as a metric, lines for failures and slow ones."""

import logging
import random
from typing import Any

from starlette.types import Scope

from slipstream.chassis import health
from slipstream.chassis.access.guard import Demands
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics

log = get_logger(__name__)

SLOW_REQUEST_S = 1.0


class RequestLog:
    """The log of a service's requests, however they are answered."""

    def __init__(self, measured: Metrics, demands: Demands) -> None:
        self._seconds, self._demands = measured.http_seconds, demands
        self._children: dict[tuple[str, str, int], Any] = {}
        # Asked once: structlog takes longer for it than a histogram for a value.
        self._tells_all = log.is_enabled_for(logging.DEBUG)

    def id_of(self, scope: Scope) -> str:
        """The caller's `X-Request-Id`, or a new id."""
        # Random by arithmetic: asking the system would let another thread take the interpreter in
        # every request.
        given: bytes = dict(reversed(scope["headers"])).get(b"x-request-id", b"")
        return given.decode("latin-1")[:64] or f"{random.getrandbits(128):032x}"

    def failed(self, scope: Scope, error: Exception) -> None:
        """Log a failure that nobody has foreseen."""
        route = self._route(scope)
        log.error("request failed", method=scope["method"], path=route, exc_info=error)

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request, and log it where it failed or was slow."""
        route = self._route(scope)
        key = (route, scope["method"], status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._seconds.labels(*map(str, key))
        child.observe(seconds)
        if route == health.READY and status == 503 and not self._tells_all:
            return  # it is polled every few seconds, and its body gives the reason
        if status >= 500 or seconds > SLOW_REQUEST_S:
            emit = log.warning
        elif status >= 400:
            emit = log.info
        elif self._tells_all:
            emit = log.debug
        else:
            return
        emit(
            "request",
            method=scope["method"],
            path=route,
            status=status,
            ms=round(seconds * 1000, 2),
        )

    def _route(self, scope: Scope) -> str:
        """The route's path, for logs and metrics: the request's may name a visitor, or a key.

        A refused request has not been routed, so its route is looked up.
        """
        routed = getattr(scope.get("route"), "path", None)
        return routed or self._demands.path_of(scope) or "unmatched"
