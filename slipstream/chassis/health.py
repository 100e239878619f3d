"""Liveness (the event loop turns) and readiness (the dependencies answer)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.times import now_ms

Check = Callable[[], Awaitable[None]]
Status = Literal["ready", "degraded", "unready"]

# Path of the readiness route.
READY = "/health/ready"
# How long verdicts are given again. Anyone may ask, and each check asks a server.
FRESH_S = 0.5


class Health:
    """Named readiness checks.

    A check passes by returning. It fails by raising, or by taking more than `limit_s` seconds.
    However many ask, the checks run once in `fresh_s` seconds: those who come meanwhile wait for
    the same run, or get its verdicts.
    """

    def __init__(
        self,
        limit_s: float = 2.0,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks: dict[str, Check] = {}
        self._optional: set[str] = set()
        self._limit_s, self._fresh_s, self._clock = limit_s, fresh_s, clock
        self._latest: asyncio.Task[dict[str, str]] | None = None
        self._ended_at = 0.0
        self._waited_for: tuple[str, Exception] | None = None
        # This process's, within a second: it is made while the process starts.
        self.started_at = now_ms()

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Add a check under the name that operators see when it fails.

        A service that answers without a dependency, only worse, adds its check with
        `required=False`. The dependency is then reported as down, but the service stays ready:
        without ready replicas no client would get an answer.
        """
        self._latest = None
        self._checks[name] = check
        if not required:
            self._optional.add(name)

    def wait_for(self, name: str, why: Exception) -> None:
        """Report only this dependency, as down: the service can't open without it.

        Earlier checks are dropped, since the next opening adds them again.
        """
        self._waited_for = (name, why)
        self._latest = None
        self._checks.clear()
        self._optional.clear()

    def go_on(self) -> None:
        """Report the checks: the service is open."""
        self._waited_for = None

    def is_waiting(self) -> bool:
        """Whether the service waits for a dependency to open."""
        return self._waited_for is not None

    def status(self, down: Collection[str]) -> Status:
        """The status with these checks down: `ready` with none, `unready` with a required one, else
        `degraded`.
        """
        if not down:
            return "ready"
        return "degraded" if self._optional.issuperset(down) else "unready"

    async def run(self) -> dict[str, str]:
        """The verdicts of all checks by name: `ok`, or the failure in words."""
        if self._waited_for is not None:
            name, why = self._waited_for
            return {name: f"{type(why).__name__}: {why}"}
        latest = self._latest
        if latest is None or (latest.done() and self._clock() - self._ended_at >= self._fresh_s):
            latest = self._latest = asyncio.create_task(self._run())
        # A client that leaves must not end the run for others.
        return await asyncio.shield(latest)

    async def _run(self) -> dict[str, str]:
        """Run all checks at once."""

        async def verdict_of(check: Check) -> str:
            try:
                await asyncio.wait_for(check(), self._limit_s)
            except TimeoutError:
                return f"no answer within {self._limit_s:g} s"
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return "ok"

        checks = dict(self._checks)  # others may be added meanwhile
        verdicts = await asyncio.gather(*map(verdict_of, checks.values()))
        self._ended_at = self._clock()
        return dict(zip(checks, verdicts, strict=True))


class Liveness(BaseModel):
    """The process is up."""

    status: Literal["live"] = "live"


class Readiness(BaseModel):
    """Whether the service is ready, the checks that fail, and the verdict of each: `ok`, or why.

    `started_at` is when its process started, in ms.
    """

    status: Status
    down: list[str]
    checks: dict[str, str]
    started_at: int


router = APIRouter(
    prefix="/health",
    tags=["health"],
    route_class=taking_any_name("a probe that is refused would end a sound process"),
)


@router.get("/live")
@open_to_all
async def live() -> Liveness:
    """The process is up and its event loop turns."""
    return Liveness()


@router.get(
    "/ready",
    responses={
        200: {"model": Readiness},
        503: {"model": Readiness, "description": "a dependency is down; the body names it"},
    },
)
@open_to_all
async def ready(request: Request) -> Response:
    """Readiness: 200 when every required dependency answers, else 503 with the names of the others.

    `degraded` means that only dependencies are down that the service can do without.
    """
    health: Health = request.app.state.health
    checks = await health.run()
    down = sorted(name for name, verdict in checks.items() if verdict != "ok")
    status = health.status(down)
    body = Readiness(status=status, down=down, checks=checks, started_at=health.started_at)
    return JSONResponse(body.model_dump(), 503 if status == "unready" else 200)
