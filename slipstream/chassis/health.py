"""Liveness and readiness. Live: the process turns. Ready: every dependency answers; the answer
names what does not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

Check = Callable[[], Awaitable[None]]

# Where readiness is asked for.
READY = "/health/ready"


class Health:
    """Named readiness checks. A check passes by returning, and fails by raising or by taking over
    `limit_s` seconds.
    """

    def __init__(self, limit_s: float = 2.0) -> None:
        self._checks: dict[str, Check] = {}
        self._optional: set[str] = set()
        self._limit_s = limit_s
        self._waited_for: tuple[str, Exception] | None = None

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Add a check; the name is what an operator reads when it fails.

        A service that goes on answering, only worse, without a dependency adds its check with
        `required=False`: it is then named as down, but the service stays ready, since taking every
        replica out of service would answer nobody.
        """
        self._checks[name] = check
        if not required:
            self._optional.add(name)

    def wait_for(self, name: str, why: Exception) -> None:
        """Report this one dependency as down and nothing else: the service can't open without it.
        Checks so far are dropped, since the next opening adds its own.
        """
        self._waited_for = name, why
        self._checks.clear()
        self._optional.clear()

    def go_on(self) -> None:
        """Report the checks: the service is open."""
        self._waited_for = None

    def status(self, down: Collection[str]) -> str:
        """`ready`, `unready` when something required is down, or `degraded` when only something
        else is.
        """
        if not down:
            return "ready"
        return "degraded" if self._optional.issuperset(down) else "unready"

    async def run(self) -> dict[str, str]:
        """All checks at once: name → `ok`, or what is wrong in words."""
        if self._waited_for is not None:
            name, why = self._waited_for
            return {name: f"{type(why).__name__}: {why}"}

        async def one(check: Check) -> str:
            try:
                await asyncio.wait_for(check(), self._limit_s)
            except TimeoutError:
                return f"no answer within {self._limit_s:g} s"
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return "ok"

        verdicts = await asyncio.gather(*(one(check) for check in self._checks.values()))
        return dict(zip(self._checks, verdicts, strict=True))


router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process is up and its event loop turns."""
    return {"status": "live"}


@router.get("/ready", responses={503: {"description": "a dependency is down; the body names it"}})
async def ready(request: Request) -> Response:
    """Every dependency answers; 503 with the name of what does not, or 200 and `degraded` where the
    service can do without.
    """
    health: Health = request.app.state.health
    checks = await health.run()
    down = sorted(name for name, verdict in checks.items() if verdict != "ok")
    status = health.status(down)
    return JSONResponse(
        {"status": status, "down": down, "checks": checks}, 503 if status == "unready" else 200
    )
