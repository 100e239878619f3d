"""Launcher: how the service has a run computed by `training-run`, and how that may end.

It hands the job over by the exchange, has a starter start the command, and waits for what comes
back. Work that needs a server which is unavailable for a while is tried again.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from services.training.run.exchange import Exchange, RunFiles, RunResult
from services.training.run.job import Job, TrainingResult
from services.training.settings import TrainingSection
from slipstream.chassis.dependencies import DependencyUnavailableError, StandbyError
from slipstream.chassis.logging import get_logger, request_id
from slipstream.contracts.steps import WAITING

log = get_logger(__name__)

# Seconds between looks at a run on this machine, and at one on another.
LOCAL_S, ELSEWHERE_S = 0.2, 2.0


class RunFailedError(Exception):
    """The run ended without a model; the message is the reason, for people."""


class KilledError(RunFailedError):
    """The run's process was ended from outside, or for want of memory.

    The same run may succeed another time.
    """


class GivenUpError(Exception):
    """The run was stopped because `give_up` said so."""


class PostponedError(Exception):
    """The service ends before the servers answer; the next one makes up for the work."""


class StarterUnavailableError(DependencyUnavailableError):
    """Whatever starts runs does not answer now."""

    dependency = "kubernetes"


@dataclass(frozen=True)
class StartState:
    """State of what was started for a run.

    Attributes:
        ended: Why it will not come to a result any more; empty while it may.
        killed: What ended it from outside, so that another start may help; empty while it computes.
        waits: What keeps it from beginning; empty where nothing does.
        held: Whether a queue holds it back, or a person. Its time does not run meanwhile.
    """

    ended: str = ""
    killed: str = ""
    waits: str = ""
    held: bool = False


def training_run(uri: str, section: TrainingSection) -> list[str]:
    """The arguments of `python -m services` that compute the run of the files at `uri`."""
    together = ["--processes", str(section.processes)] if section.processes > 1 else []
    # The others of several processes do not read the job.
    device = ["--device", "cpu"] if section.device == "cpu" else []
    return ["training-run", "--job", uri, *together, *device]


class Starter:
    """Starter of `python -m services training-run` for a run.

    This one leaves it to a scheduler or a person, and knows nothing of the command but what it
    writes. Methods of others raise StarterUnavailableError, and RunFailedError where they are
    refused.

    Attributes:
        local: Whether the command computes on the service's machine, and ends with the service.
            Otherwise it outlives the service, and the next service waits for it.
    """

    local = False

    def start(self, run_id: str, uri: str) -> None:
        """Start the command for the files at `uri`, unless that has happened."""
        log.info("a run waits for python -m services training-run", run_id=run_id, job=uri)

    def state(self, run_id: str) -> StartState:  # noqa: ARG002
        """The state of what was started."""
        return StartState()

    def stop(self, run_id: str) -> None:
        """End it, and delete what is left. A command ends by itself when it misses its job."""


class Launcher:
    """Launcher of runs, one at a time, by the files of an exchange and a starter.

    Args:
        look_s: Seconds between looks at a run; None takes what suits the starter.
    """

    def __init__(self, exchange: Exchange, starter: Starter, look_s: float | None = None) -> None:
        self._exchange, self._starter = exchange, starter
        self._look_s = look_s or (LOCAL_S if starter.local else ELSEWHERE_S)

    def run(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[bool], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        """Compute a run, or wait for one that goes on already; its bundle is at `job.output` then.

        It waits while the exchange or the starter is unavailable. No process is left on this
        machine when it returns or raises; several that train together end within a second.

        Args:
            on_progress: Gets each message, see `ProgressReporter`.
            give_up: Asked after each look, with whether the run is held back; True stops it.
            stop: Set when the service ends.

        Raises:
            GivenUpError: The run was stopped.
            PostponedError: The service ends, and the run goes on without it.
            KilledError: The run was killed; its checkpoints are at `job.checkpoints`.
            RunFailedError: The run failed; the message is the reason.
        """
        try:
            return self._awaited(job, on_progress, give_up, stop)
        finally:
            if self._starter.local:
                self._starter.stop(job.name)

    def goes_on(self, run_id: str) -> bool:
        """Whether a run that an earlier service has begun goes on, or has left its result."""
        return not self._starter.local and self._exchange.of(run_id).handed() is not None

    def forget(self, run_id: str) -> None:
        """End the run, if it is under way, and delete its files. It never fails."""
        try:
            self._starter.stop(run_id)
            self._exchange.of(run_id).drop()
        except (DependencyUnavailableError, RunFailedError) as error:
            log.warning("a run's files are left for now", run_id=run_id, reason=str(error))

    def forget_all_but(self, run_ids: Collection[str]) -> None:
        """Forget all others of which there are files."""
        for run_id in self._exchange.runs():
            if run_id not in run_ids:
                self.forget(run_id)

    def _awaited(
        self,
        job: Job,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[bool], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        files = self._exchange.of(job.name)
        begun, away, held, shown = False, False, False, dict[str, Any]()
        while True:
            try:
                if not begun:
                    self._begin(job, files)
                begun = True
                # Read before result and progress, since whatever has ended wrote them before.
                state = self._starter.state(job.name)
                held = state.held
                result = files.result()
                # The last message tells the step that the run ended in, and its time.
                message = self._message(files, state) if result is None else files.progress() or {}
                if message not in ({}, shown):
                    on_progress(message)
                shown = message
                if result is not None:
                    return _collected(result, files, job)
                self._require_life(state, files, job)
            except DependencyUnavailableError as error:
                if not away:
                    log.warning("a run can't be looked at", reason=str(error))
                away = True
            else:
                away = False
            if give_up(held) or (stop.wait(self._look_s) and self._starter.local):
                raise GivenUpError
            if stop.is_set():
                raise PostponedError("the run goes on elsewhere")

    def _begin(self, job: Job, files: RunFiles) -> None:
        files.hand_over(job, request_id.get(), local=self._starter.local)
        if files.result() is None:
            self._starter.start(job.name, files.uri)

    def _message(self, files: RunFiles, state: StartState) -> dict[str, Any]:
        """The run's latest message, or that it waits; empty where there is nothing to tell."""
        message = files.progress() or {}
        if state.waits or not (message or self._starter.local):
            return {"progress": 0.0, **message, "stage": WAITING, "detail": state.waits}
        return message

    def _require_life(self, state: StartState, files: RunFiles, job: Job) -> None:
        if state.killed:
            if not self._starter.local:
                files.fetch_checkpoints(job.checkpoints)
            raise KilledError(state.killed)
        if state.ended:
            raise RunFailedError(state.ended)


def _collected(result: RunResult, files: RunFiles, job: Job) -> TrainingResult:
    if result.trained is None:
        raise RunFailedError(result.failed)
    files.collect(result, job.output)
    return result.trained


# Seconds between tries.
RETRY_S: Final = 2.0

Result = TypeVar("Result")


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
