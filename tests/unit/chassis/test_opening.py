"""A service without its dependency at start: alive and not ready until it is back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI
from structlog.typing import EventDict

from slipstream.chassis import opening
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import (
    DependencyUnavailableError,
    RefusedSettingsError,
    StandbyError,
)
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.times import now_ms


class ShopClosedError(DependencyUnavailableError):
    dependency = "shop"


class Scene:
    """A service with a lifespan that fails with each of `failures` in turn, and then opens.

    `let_go` releases later tries.
    """

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.held = self.closed = 0
        self.held_again, self.let_go, self.opened = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        router = APIRouter()

        @router.get("/answer")
        @open_to_all
        async def answer() -> int:
            return 42

        self.app = create_service(
            "probe", ServiceSettings(), description="", lifespan=self._lifespan, routers=[router]
        )

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self.held += 1
            stack.callback(self._close)
            app.state.health.add("shop", self._fine)
            if self.held > 1:
                self.held_again.set()
                await self.let_go.wait()
            if self.failures:
                raise self.failures.pop(0)
            self.opened.set()
            yield

    def _close(self) -> None:
        self.closed += 1

    async def _fine(self) -> None:
        return None


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        yield client


@contextmanager
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FIRST_PAUSE_S", 0.001)


async def test_it_is_alive_not_ready_and_refuses_requests_until_its_dependency_is_back() -> None:
    scene = Scene(ShopClosedError("closed until nine"), ShopClosedError("closed until nine"))
    with logged() as entries:
        async with running(scene.app) as client:
            await (
                scene.held_again.wait()
            )  # the second try is under way, with a check of its own that passes
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            unready = await client.get("/health/ready")
            assert unready.status_code == 503
            reason = "ShopClosedError: closed until nine"
            assert unready.json() == {
                "status": "unready",
                "down": ["shop"],
                "checks": {"shop": reason},
                "started_at": pytest.approx(now_ms(), abs=60_000),
            }
            refused = await client.get("/answer", headers={"X-Request-Id": "r-1"})
            assert (refused.status_code, refused.headers["content-type"]) == (
                503,
                "application/problem+json",
            )
            assert (refused.json()["code"], refused.headers["retry-after"]) == ("starting", "5")
            assert "shop" in refused.json()["detail"] and refused.headers["x-request-id"] == "r-1"
            assert (await client.get("/docs")).status_code == 503

            scene.let_go.set()
            await scene.opened.wait()
            assert (await client.get("/health/ready")).json() == {
                "status": "ready",
                "down": [],
                "checks": {"shop": "ok"},
                "started_at": pytest.approx(now_ms(), abs=60_000),
            }
            assert (await client.get("/answer")).json() == 42
            assert (scene.held, scene.closed) == (3, 2)
    assert scene.closed == 3
    (waiting,) = [
        entry for entry in entries if entry["event"] == "waiting to start"
    ]  # one line for two failures of one reason
    assert (waiting["waits_for"], waiting["reason"], waiting["log_level"]) == (
        "shop",
        "closed until nine",
        "warning",
    )
    assert [entry["event"] for entry in entries if entry["event"] in ("started", "stopped")] == [
        "started",
        "stopped",
    ]


class OtherActsError(StandbyError):
    dependency = "lease"


async def test_an_instance_that_stands_by_says_so_and_warns_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "STANDBY_PAUSE_S", 0.001)
    scene = Scene(OtherActsError("pod-1 acts"), OtherActsError("pod-1 acts"))
    with logged() as entries:
        async with running(scene.app) as client:
            await scene.held_again.wait()
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).json()["down"] == ["lease"]
            refused = await client.get("/answer")
            assert (refused.status_code, refused.json()["code"]) == (503, "standby")
            assert refused.json()["detail"] == "This instance stands by: pod-1 acts"
            scene.let_go.set()
            await scene.opened.wait()
            assert (await client.get("/answer")).json() == 42
    assert [entry["event"] for entry in entries if entry["event"] == "standing by"] == [
        "standing by"
    ]
    assert {entry["log_level"] for entry in entries if entry["event"] != "request"} == {"info"}


async def test_another_reason_is_logged_again() -> None:
    scene = Scene(ShopClosedError("closed"), ShopClosedError("on fire"))
    scene.let_go.set()
    with logged() as entries:
        async with running(scene.app):
            await scene.opened.wait()
    assert [entry["reason"] for entry in entries if entry["event"] == "waiting to start"] == [
        "closed",
        "on fire",
    ]


async def test_a_service_that_opens_at_once_is_ready_when_its_start_has_completed() -> None:
    scene = Scene()
    async with running(scene.app) as client:
        assert (await client.get("/health/ready")).json()["checks"] == {"shop": "ok"}
        assert (await client.get("/answer")).json() == 42
    assert (scene.held, scene.closed) == (1, 1)


async def test_a_stop_while_it_waits_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(opening, "LONGEST_PAUSE_S", 3600.0)
    scene = Scene(ShopClosedError("closed"))
    async with asyncio.timeout(60):
        async with running(scene.app):
            pass
    assert (scene.held, scene.closed) == (1, 1)


async def test_any_other_failure_of_the_first_try_ends_the_start() -> None:
    scene = Scene(ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        async with running(scene.app):
            pytest.fail("it must not open")
    assert scene.closed == 1


async def test_any_other_failure_of_a_later_try_ends_the_service() -> None:
    scene = Scene(ShopClosedError("closed"), ZeroDivisionError("oops"))
    scene.let_go.set()
    ended = asyncio.Event()
    scene.app.state.ending.calls(ended.set)
    async with asyncio.timeout(60), running(scene.app) as client:
        await ended.wait()
        assert (await client.get("/answer")).status_code == 503
    assert scene.app.state.ending.reason == "the start failed: ZeroDivisionError: oops"
    assert scene.closed == 2


async def test_refused_settings_end_the_service_with_one_sentence() -> None:
    sentence = "Kafka refuses SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS=2000: its minimum is 6000"
    scene = Scene(RefusedSettingsError(sentence))
    ended = asyncio.Event()
    scene.app.state.ending.calls(ended.set)
    with logged() as entries:
        async with asyncio.timeout(60), running(scene.app):
            await ended.wait()
    assert scene.app.state.ending.reason == sentence
    (critical,) = [
        entry for entry in entries if entry["log_level"] in ("warning", "error", "critical")
    ]
    assert (critical["log_level"], critical["reason"]) == ("critical", sentence)
    assert "exc_info" not in critical


async def test_a_failure_to_close_is_no_reason_to_open_again() -> None:
    held = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal held
        held += 1
        yield
        raise ShopClosedError("gone while closing")

    app = create_service("probe", ServiceSettings(), description="", lifespan=lifespan, routers=[])
    with pytest.raises(ShopClosedError):
        async with running(app):
            pass
    assert held == 1
