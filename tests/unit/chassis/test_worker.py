import threading

import pytest

from slipstream.chassis.metrics import Metrics
from slipstream.chassis.worker import Worker


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

    worker = Worker("consumer", target, metrics.worker_restarts).start()
    try:
        assert second.wait(5)
        await worker.check()
        assert metrics.registry.get_sample_value("slipstream_worker_restarts_total", {"worker": "consumer"}) == 1
    finally:
        worker.stop()


async def test_check_fails_while_the_worker_is_down_and_says_why() -> None:
    failed = threading.Event()

    def target(stop: threading.Event) -> None:
        failed.set()
        raise ConnectionError("broker away")

    worker = Worker("consumer", target).start()
    assert failed.wait(5)
    try:
        for _ in range(500):
            try:
                await worker.check()
            except RuntimeError as error:
                if "broker away" in str(error):
                    break
        else:
            pytest.fail("the failure was never reported")
    finally:
        worker.stop()
    with pytest.raises(RuntimeError):
        await worker.check()
