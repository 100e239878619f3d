"""The opening of a service: at once where its servers answer, else tried again until they do.

Until then the service is alive and not ready. So is an instance that stands by for another one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from slipstream.chassis.dependencies import (
    DependencyUnavailableError,
    RefusedSettingsError,
    StandbyError,
)
from slipstream.chassis.ending import Ending
from slipstream.chassis.errors import UnavailableError
from slipstream.chassis.health import Health
from slipstream.chassis.logging import get_logger
from slipstream.chassis.pauses import pause_after

log = get_logger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
# Between two tries of an instance that stands by.
STANDBY_PAUSE_S: Final = 2.0
# An unchanged reason is logged again after this many seconds.
REMIND_EVERY_S: Final = 30.0


# Paths that are answered as usual while the service waits.
OBSERVED: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
_RETRY_AFTER_S: Final = 5


class StandingByError(UnavailableError):
    """Another instance acts, and it alone takes requests."""

    code, title = "standby", "Another instance answers"


class StartingError(UnavailableError):
    """The service waits for a server that it needs, and takes no requests yet."""

    code, title = "starting", "The service is starting"


@asynccontextmanager
async def opening(app: FastAPI, lifespan: Lifespan) -> AsyncIterator[None]:
    """Open the service for the length of the block, or keep trying to.

    Entering takes until `lifespan` is entered, or until its first try meets a server that is down.
    The lifespan is then tried again, with pauses, until it succeeds. Any other failure of the first
    try is raised. Refused settings end the service by `app.state.ending`, and so does any other
    failure of a later try.
    """
    attempts = _Attempts(app, lifespan)
    tracing = app.state.metrics.tracing
    if tracing is not None:
        tracing.open()
    task = asyncio.create_task(attempts.run(), name="opening")
    try:
        await asyncio.wait({task, attempts.settled}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        attempts.stop.set()
        try:
            await task
        finally:
            if tracing is not None:
                await asyncio.to_thread(tracing.close)


class _Attempts:
    """Tries to enter a lifespan until that succeeds, and leaves it on `stop`, all in one task.

    `settled` is done when HTTP may begin.
    """

    def __init__(self, app: FastAPI, lifespan: Lifespan) -> None:
        self._app, self._lifespan = app, lifespan
        self._health: Health = app.state.health
        self._ending: Ending = app.state.ending
        self._usual = app.router.middleware_stack
        self._logged, self._logged_at = "", 0.0
        self.stop = asyncio.Event()
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        failures = 0
        while not self.stop.is_set():
            try:
                failure = await self._open()
            except RefusedSettingsError as error:
                self._wait_for("settings", error)
                self._ending.ask(str(error))
                return
            except Exception as error:
                if not self.settled.done() or self.stop.is_set():
                    raise
                log.error("start failed", exc_info=error)
                self._ending.ask(f"the start failed: {type(error).__name__}: {error}")
                return
            if failure is None:
                return
            self._wait_for(failure.dependency, failure)
            self._log(failure)
            failures += 1
            pause = pause_after(failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)
            if isinstance(failure, StandbyError):
                pause = STANDBY_PAUSE_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), pause)

    async def _open(self) -> DependencyUnavailableError | None:
        """Enter the lifespan and leave it on `stop`; returns the error of a server that is down."""
        opened = False
        try:
            async with self._lifespan(self._app):
                opened = True
                self._take_requests()
                await self.stop.wait()
            log.info("stopped")
        except DependencyUnavailableError as error:
            if opened:
                raise
            return error
        return None

    def _take_requests(self) -> None:
        self._health.go_on()
        self._app.router.middleware_stack = self._usual
        self._settle()
        log.info("started")

    def _wait_for(self, name: str, why: Exception) -> None:
        """Report the service as not ready, and refuse requests.

        The innermost layer of the app is replaced, so that an open service pays nothing for this.
        """
        usual = self._usual

        async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in OBSERVED:
                await usual(scope, receive, send)
                return
            raise _refusal(name, why)

        self._health.wait_for(name, why)
        self._app.router.middleware_stack = refuse
        self._settle()

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

    def _log(self, failure: DependencyUnavailableError) -> None:
        reason, now = str(failure), time.monotonic()
        if isinstance(failure, StandbyError):
            if reason != self._logged:
                self._logged = reason
                log.info("standing by", reason=reason)
        elif reason != self._logged or now - self._logged_at >= REMIND_EVERY_S:
            self._logged, self._logged_at = reason, now
            log.warning("waiting to start", waits_for=failure.dependency, reason=reason)


def _refusal(name: str, why: Exception) -> UnavailableError:
    """The answer to requests while the service waits."""
    if isinstance(why, StandbyError):
        return StandingByError(f"This instance stands by: {why}", retry_after_s=_RETRY_AFTER_S)
    return StartingError(
        f"The service is starting and waits for {name}; /health/ready says why",
        retry_after_s=_RETRY_AFTER_S,
    )
