"""Liveness and readiness. Live: the process turns. Ready: every dependency answers; the answer names what does not."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

Check = Callable[[], Awaitable[None]]


class Health:
    """Named readiness checks. A check passes by returning, and fails by raising or by taking over `limit_s` seconds."""

    def __init__(self, limit_s: float = 2.0) -> None:
        self._checks: dict[str, Check] = {}
        self._limit_s = limit_s

    def add(self, name: str, check: Check) -> None:
        """Add a check; the name is what an operator reads when it fails."""
        self._checks[name] = check

    async def run(self) -> dict[str, str]:
        """All checks at once: name → `ok`, or what is wrong in words."""

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
    """Every dependency answers; 503 with the name of what does not."""
    health: Health = request.app.state.health
    checks = await health.run()
    down = sorted(name for name, verdict in checks.items() if verdict != "ok")
    body = {"status": "unready" if down else "ready", "down": down, "checks": checks}
    return JSONResponse(body, 503 if down else 200)
