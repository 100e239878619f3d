"""Start of a run's process, its messages and its end, on the service's side."""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from services.training.run.job import Job, Order, TrainingResult
from services.training.run.launcher import GivenUpError, KilledError, RunFailedError
from slipstream.chassis.logging import request_id
from slipstream.chassis.settings import LogSettings

_LISTEN_S = 0.1


class ProcessLauncher:
    """Launcher of child processes of the service. They end with it."""

    def __init__(self, log: LogSettings) -> None:
        self._log = log

    def run(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        """See `Launcher`; `stop` gives the run up."""
        return run_in_child(
            job, self._log, on_progress=on_progress, give_up=lambda: stop.is_set() or give_up()
        )

    def goes_on(self, run_id: str) -> bool:  # noqa: ARG002
        """False: the run's process has ended with its service."""
        return False

    def forget(self, run_id: str) -> None:
        """Nothing is left of a process."""

    def forget_all_but(self, run_ids: Collection[str]) -> None:
        """Nothing is left of a process."""


def run_in_child(
    job: Job,
    log: LogSettings,
    *,
    on_progress: Callable[[dict[str, Any]], None],
    give_up: Callable[[], bool],
) -> TrainingResult:
    """Train in a process, and return its result; its bundle is at the job's `output` then.

    No process is left when this returns or raises. Call it from a thread that lives as long as the
    service: on Linux the process dies with the thread that started it.

    Args:
        job: The job.
        log: Settings of the process's log.
        on_progress: Gets each message, see `ProgressReporter`.
        give_up: Asked ten times a second; True kills the process.

    Raises:
        GivenUpError: `give_up` was True.
        KilledError: A signal ended the process.
        RunFailedError: The run failed; the message is the reason.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "services.training.run.child", str(writing)]
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writing])
        finally:
            os.close(writing)
        with _ended_with_block(child):
            assert child.stdin is not None  # noqa: S101
            order = Order(job=job, log=log, parent=os.getpid(), request_id=request_id.get())
            child.stdin.write(order.model_dump_json().encode() + b"\n")
            child.stdin.flush()
            for message in _messages(pipe.fileno(), give_up):
                if "trained" in message:
                    return TrainingResult.model_validate(message["trained"])
                if "failed" in message:
                    raise RunFailedError(message["failed"])
                on_progress(message)
            raise _broken(child.wait(10))


def _messages(descriptor: int, give_up: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The messages as they come, until the other end closes."""
    buffered = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if give_up():
                raise GivenUpError
            if not selector.select(_LISTEN_S):
                continue
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                return
            *lines, buffered = (buffered + chunk).split(b"\n")
            yield from map(json.loads, lines)


@contextmanager
def _ended_with_block(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        child.kill()
        if child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.close()
        child.wait()


def _broken(status: int) -> RunFailedError:
    if status == -signal.SIGKILL:
        return KilledError(
            "the training process was killed (signal 9), most likely for want of memory"
        )
    if status < 0:
        return KilledError(f"the training process died of signal {-status}")
    return RunFailedError(
        f"the training process ended without a result (status {status}); the log has more"
    )
