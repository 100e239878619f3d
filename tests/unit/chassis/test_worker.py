import asyncio
import threading
from collections.abc import Callable

import pytest
import structlog

from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.chassis.ending import Ending
from slipstream.chassis.health import Health
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.worker import Worker, Workers


async def test_worker_runs_again_after_a_failure_and_is_counted() -> None:
    metrics = Metrics("probe")
    second = threading.Event()
    calls = 0

    def target(stop: threading.Event) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("broker away")
        second.set()
        stop.wait()

    worker = Worker("consumer", target, metrics.worker_restarts)
    restarts = ("slipstream_worker_restarts_total", {"worker": "consumer"})
    assert metrics.registry.get_sample_value(*restarts) == 0, "an alarm sees an increase from it"
    worker.start()
    try:
        assert second.wait(60)
        await worker.check()
        assert metrics.registry.get_sample_value(*restarts) == 1
    finally:
        worker.stop()


async def failure(worker: Worker) -> str:
    """What the worker's check complains of; empty while it does not."""
    try:
        await worker.check()
    except RuntimeError as error:
        return str(error)
    return ""


async def test_check_fails_while_the_worker_is_down_and_says_why() -> None:
    failed = threading.Event()

    def target(stop: threading.Event) -> None:
        failed.set()
        raise ConnectionError("broker away")

    worker = Worker("consumer", target).start()
    assert failed.wait(60)
    try:
        async with asyncio.timeout(60):
            while "broker away" not in await failure(worker):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        worker.stop()
    with pytest.raises(RuntimeError):
        await worker.check()


class ShopClosedError(DependencyUnavailableError):
    dependency = "shop"


async def test_workers_of_a_service_are_checked_by_name_and_stopped_together() -> None:
    metrics, health = Metrics("probe"), Health(fresh_s=0.0)
    workers = Workers(health, metrics.worker_restarts, lambda _: None)
    running = [threading.Event(), threading.Event()]

    def target(began: threading.Event) -> Callable[[threading.Event], None]:
        def run(stop: threading.Event) -> None:
            began.set()
            stop.wait()

        return run

    workers.start("reader", target(running[0]))
    workers.start("sweeper", target(running[1]), checked=False)
    try:
        assert all(began.wait(60) for began in running)
        assert await health.run() == {"reader": "ok"}
    finally:
        await workers.stop()
    assert await health.run() == {"reader": "RuntimeError: not running"}


def test_a_dependency_that_is_away_is_one_line_and_other_failures_have_a_traceback() -> None:
    metrics = Metrics("probe")
    again = threading.Event()
    failures: list[Exception] = [ShopClosedError("closed until nine"), ZeroDivisionError("oops")]

    def target(stop: threading.Event) -> None:
        if failures:
            raise failures.pop(0)
        again.set()
        stop.wait()

    with structlog.testing.capture_logs() as entries:
        worker = Worker("reader", target, metrics.worker_restarts).start()
        assert again.wait(60)
        worker.stop()
    waits, failed = entries
    assert (waits["event"], waits["waits_for"], waits["reason"]) == (
        "worker waits",
        "shop",
        "closed until nine",
    )
    assert "exc_info" not in waits
    assert (failed["event"], repr(failed["exc_info"])) == (
        "worker failed",
        repr(ZeroDivisionError("oops")),
    )
    assert (
        metrics.registry.get_sample_value("slipstream_worker_restarts_total", {"worker": "reader"})
        == 2
    )


async def test_refused_settings_end_the_service_and_not_only_the_worker() -> None:
    metrics, health, ending, ended = (
        Metrics("probe"),
        Health(fresh_s=0.0),
        Ending(),
        threading.Event(),
    )
    ending.calls(ended.set)
    calls = 0

    def target(stop: threading.Event) -> None:
        nonlocal calls
        calls += 1
        raise RefusedSettingsError("Kafka refuses a session timeout of 2 s")

    workers = Workers(health, metrics.worker_restarts, ending.ask)
    with structlog.testing.capture_logs() as entries:
        workers.start("reader", target)
        assert ended.wait(60)
        await workers.stop()
    assert (ending.reason, calls) == ("Kafka refuses a session timeout of 2 s", 1)
    assert [(entry["log_level"], entry["reason"]) for entry in entries] == [
        ("critical", ending.reason)
    ]
    assert "refuses" in (await health.run())["reader"]
