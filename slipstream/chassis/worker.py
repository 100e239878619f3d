"""Background threads that must keep running: restarted with a growing pause after a failure, visible in readiness."""

import threading
import time
from collections.abc import Callable

from prometheus_client import Counter

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)


class Worker:
    """Runs `target(stop)` in a thread until `stop` is set.

    `target` must return soon after `stop` is set. When it raises, the failure is logged and `target` is called again
    after a pause (0.5 s, doubling to 15 s): a consumer built inside `target` then reads again from its last commit.
    """

    def __init__(self, name: str, target: Callable[[threading.Event], None], restarts: Counter | None = None) -> None:
        self.name = name
        self._target = target
        self._restarts = restarts
        self._stop = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Worker":
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask the target to return and wait for it; a target that does not is left behind and logged."""
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
        pause = 0.5
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._target(self._stop)
                return
            except Exception as error:
                if time.monotonic() - started > 60:
                    pause = 0.5
                self._failure = f"{type(error).__name__}: {error}"
                log.error("worker failed", worker=self.name, again_in_s=pause, exc_info=error)
                if self._restarts is not None:
                    self._restarts.labels(self.name).inc()
            self._stop.wait(pause)
            pause = min(pause * 2, 15.0)
            self._failure = None
