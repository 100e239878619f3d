"""Child process of a run: `training-run` on the service's machine, ended with the service."""

import json
import os
import signal
import subprocess
import sys

from services.training.run.exchange import exchange_options
from services.training.run.launcher import Starter, StartState, training_run
from services.training.settings import TrainingSettings


class ChildStarter(Starter):
    """Starter of child processes of the service, one at a time.

    A child lives as long as its standard input is open, so it ends with the service in whatever way
    that ends. It has a session of its own: Ctrl-C reaches the service alone.

    Args:
        settings: Settings of the service, which the child gets.
    """

    local = True

    def __init__(self, settings: TrainingSettings) -> None:
        self._section = settings.training
        self._environment = {**os.environ, **_environment(settings)}
        self._run_id = ""
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, run_id: str, uri: str) -> None:
        """Start the child, at a lower priority than the service's."""
        command = [sys.executable, "-m", "services", *training_run(uri, self._section)]
        self._run_id = run_id
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=self._environment, start_new_session=True
        )
        priority = os.getpriority(os.PRIO_PROCESS, 0) + self._section.niceness
        os.setpriority(os.PRIO_PROCESS, self._child.pid, min(priority, 19))

    def state(self, run_id: str) -> StartState:
        """The state of the child."""
        status = None if self._child is None or run_id != self._run_id else self._child.poll()
        if status is None:
            return StartState()
        if status == -signal.SIGKILL:
            return StartState(
                killed="the training process was killed (signal 9), most likely for want of memory"
            )
        if status < 0 or status > 128:  # a shell's form, which the child has for SIGTERM
            number = -status if status < 0 else status - 128
            return StartState(killed=f"the training process died of signal {number}")
        return StartState(
            ended=f"the training process ended without a result (status {status}); the log has more"
        )

    def stop(self, run_id: str) -> None:
        """End the child and the processes that it has started."""
        if self._child is None or run_id != self._run_id:
            return
        if self._child.poll() is None:  # or the number may be another process's by now
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()
        self._child = None


def _environment(settings: TrainingSettings) -> dict[str, str]:
    """The settings that the command reads, as environment variables."""
    sections = {
        "LAKE": settings.lake.model_dump(),
        "LOG": settings.log.model_dump(),
        "TRAINING": {"exchange_options": exchange_options(settings)},
    }
    return {
        f"SLIPSTREAM_{section}__{name.upper()}": value
        if isinstance(value, str)
        else json.dumps(value)
        for section, fields in sections.items()
        for name, value in fields.items()
    }
