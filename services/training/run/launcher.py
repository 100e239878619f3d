"""Launcher: how the service has a run computed, and how that may end.

`process.py` starts a child process of the service, `remote.py` leaves the run to another machine.
Work that needs a server which is unavailable for a while is tried again.
"""

import threading
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol, TypeVar

from services.training.run.job import Job, TrainingResult
from slipstream.chassis.dependencies import DependencyUnavailableError, StandbyError
from slipstream.chassis.logging import get_logger


class RunFailedError(Exception):
    """The run ended without a model; the message is the reason, for people."""


class KilledError(RunFailedError):
    """The run's process was ended from outside, or for want of memory.

    The same run may succeed another time.
    """


class GivenUpError(Exception):
    """The run was stopped because `give_up` said so."""


class Launcher(Protocol):
    """Computes runs, one at a time."""

    def run(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        """Compute a run, or wait for one that goes on already; its bundle is at `job.output` then.

        Args:
            job: The job.
            on_progress: Gets each message, see `ProgressReporter`.
            give_up: Asked often; True stops the run.
            stop: Set when the service ends.

        Raises:
            GivenUpError: The run was stopped.
            PostponedError: The service ends, and the run goes on without it.
            KilledError: The run was killed; its checkpoints are at `job.checkpoints`.
            RunFailedError: The run failed; the message is the reason.
        """

    def goes_on(self, run_id: str) -> bool:
        """Whether a run that an earlier service has begun goes on, or has left its result."""

    def forget(self, run_id: str) -> None:
        """Delete what is left of a run that has ended. It never fails."""

    def forget_all_but(self, run_ids: Collection[str]) -> None:
        """Delete what is left of all others, which a killed service could not delete."""


log = get_logger(__name__)

# Seconds between tries.
RETRY_S: Final = 2.0

Result = TypeVar("Result")


class PostponedError(Exception):
    """The service ends before the servers answer; the next one makes up for the work."""


def until_answered(attempt: Callable[[], Result], stop: threading.Event) -> Result:
    """The result of `attempt`, which is called again as long as a server does not answer.

    Other errors pass. Raises PostponedError where a server does not answer and `stop` is set, or
    another instance acts by now.
    """
    warned = False
    while True:
        try:
            return attempt()
        except DependencyUnavailableError as error:
            if stop.is_set() or isinstance(error, StandbyError):
                raise PostponedError(str(error)) from error
            if not warned:
                log.warning("work waits", waits_for=error.dependency, reason=str(error))
            warned = True
            stop.wait(RETRY_S)
