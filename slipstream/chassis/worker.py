"""Background threads that are restarted after a failure, and shown in readiness."""

import asyncio
import threading
import time
from collections.abc import Callable

from prometheus_client import Counter

from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.chassis.health import Health
from slipstream.chassis.logging import get_logger
from slipstream.chassis.pauses import pause_after

log = get_logger(__name__)

Target = Callable[[threading.Event], None]


class Worker:
    """Runs `target(stop)` in a thread until `stop` is set.

    `target` must return soon after `stop` is set. When it raises, the failure is logged and
    `target` is called again after a pause (0.5 s, doubling to 15 s). A consumer that is built
    inside `target` then reads again from its last commit. Refused settings end the worker, and
    `refused` is called with the reason.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        restarts: Counter | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._target = target
        self._restarts = restarts
        if restarts is not None:
            restarts.labels(name)  # An alarm sees an increase only of a series that was there.
        self._refused = refused
        self._stop = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Worker":
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask the target to return and wait for it; one that does not is logged and abandoned."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("worker did not stop in time", worker=self.name, timeout_s=timeout_s)

    async def check(self) -> None:
        """A readiness check: raises while the worker is down or between restarts."""
        if self._failure:
            raise RuntimeError(self._failure)
        if not self._thread.is_alive():
            raise RuntimeError("not running")

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._target(self._stop)
                return
            except RefusedSettingsError as error:
                self._failure = str(error)
                self._refused(str(error))
                return
            except Exception as error:
                if time.monotonic() - started > 60:
                    failures = 0
                failures += 1
                pause = pause_after(failures, 0.5, 15.0)
                self._failure = f"{type(error).__name__}: {error}"
                self._log(error, pause)
            self._stop.wait(pause)
            self._failure = None

    def _log(self, error: Exception, pause: float) -> None:
        if isinstance(error, DependencyUnavailableError):
            log.warning(
                "worker waits",
                worker=self.name,
                waits_for=error.dependency,
                reason=str(error),
                again_in_s=pause,
            )
        else:
            log.error("worker failed", worker=self.name, again_in_s=pause, exc_info=error)
        if self._restarts is not None:
            self._restarts.labels(self.name).inc()


class Workers:
    """The workers of one service.

    `restarts` counts their restarts. `refused` ends the service where its settings are refused.
    """

    def __init__(self, health: Health, restarts: Counter, refused: Callable[[str], None]) -> None:
        self._health, self._restarts, self._refused = health, restarts, refused
        self._running: list[Worker] = []

    def start(self, name: str, target: Target, *, checked: bool = True) -> None:
        """Start a worker. Readiness checks it under its name, unless `checked` is False."""
        worker = Worker(name, target, self._restarts, self._refused).start()
        self._running.append(worker)
        if checked:
            self._health.add(name, worker.check)

    async def stop(self) -> None:
        """Stop all workers, in parallel."""
        stopping, self._running = self._running, []
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in stopping))
