"""Launcher of runs on other machines: it hands a job over, and waits for what comes back.

A run outlives the service. The next service, or the one that takes over, waits for it in turn.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.training.run.exchange import Exchange, RunFiles
from services.training.run.job import Job, TrainingResult
from services.training.run.launcher import GivenUpError, KilledError, PostponedError, RunFailedError
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.logging import get_logger, request_id

log = get_logger(__name__)

# Seconds between looks at a run.
LOOK_S: Final = 2.0
WAITING: Final = "waiting for a machine"


class StarterUnavailableError(DependencyUnavailableError):
    """Whatever starts runs does not answer now."""

    dependency = "kubernetes"


@dataclass(frozen=True)
class StartState:
    """State of what was started for a run.

    Attributes:
        ended: Why it will not come to a result any more; empty while it may.
        deleted: Whether somebody has deleted it.
        waits: What keeps it from beginning; empty where nothing does.
    """

    ended: str = ""
    deleted: bool = False
    waits: str = ""


class Starter(Protocol):
    """Starts `python -m services training-run` for a run, as `KubernetesJobs` does.

    Methods raise StarterUnavailableError, and RunFailedError where they are refused.
    """

    def start(self, run_id: str, uri: str) -> None:
        """Start the command for the files at `uri`, unless that has happened."""

    def state(self, run_id: str) -> StartState:
        """The state of what was started."""

    def stop(self, run_id: str) -> None:
        """End it, and delete what is left."""


class ExternalStarter:
    """Starter that does nothing: KEDA, a scheduler or a person starts the command."""

    def start(self, run_id: str, uri: str) -> None:
        """Say where the job is."""
        log.info("a run waits for python -m services training-run", run_id=run_id, job=uri)

    def state(self, run_id: str) -> StartState:  # noqa: ARG002
        """Nothing is known of the command but what it writes."""
        return StartState()

    def stop(self, run_id: str) -> None:
        """The command ends by itself when it misses its job."""


class RemoteLauncher:
    """Launcher of runs by the files of an exchange and a starter.

    Args:
        exchange: Files of runs.
        starter: Starts the command.
        look_s: Seconds between looks at a run.
    """

    def __init__(self, exchange: Exchange, starter: Starter, look_s: float = LOOK_S) -> None:
        self._exchange, self._starter, self._look_s = exchange, starter, look_s

    def run(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        """See `Launcher`. It waits while the exchange or the starter is unavailable."""
        files = self._exchange.of(job.version)
        begun, away, shown = False, False, dict[str, Any]()

        def tell(message: dict[str, Any]) -> None:
            nonlocal shown
            if message != shown:
                on_progress(message)
            shown = message

        while not give_up():
            try:
                if not begun:
                    self._begin(job, files)
                begun = True
                found = self._look(job, files, tell)
            except DependencyUnavailableError as error:
                if not away:
                    log.warning("a run elsewhere can't be looked at", reason=str(error))
                away = True
            else:
                away = False
                if isinstance(found, TrainingResult):
                    return found
                tell(found)
            if stop.wait(self._look_s):
                raise PostponedError("the run goes on elsewhere")
        raise GivenUpError

    def goes_on(self, run_id: str) -> bool:
        """Whether the run's job is in the exchange."""
        return self._exchange.of(run_id).handed() is not None

    def forget(self, run_id: str) -> None:
        """End the run, if it is under way, and delete its files."""
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

    def _begin(self, job: Job, files: RunFiles) -> None:
        files.hand_over(job, request_id.get())
        if files.result() is None:
            self._starter.start(job.version, files.uri)

    def _look(
        self, job: Job, files: RunFiles, tell: Callable[[dict[str, Any]], None]
    ) -> TrainingResult | dict[str, Any]:
        """The result, or a message; raises KilledError and RunFailedError."""
        state = self._starter.state(job.version)
        # Read after the state, since whatever has ended wrote its result before.
        if (result := files.result()) is not None:
            if last := files.progress():  # the step that it ended in, and what it cost
                tell(last)
            if result.trained is None:
                raise RunFailedError(result.failed)
            files.collect(result, job.output)
            return result.trained
        if state.deleted:
            files.fetch_checkpoints(job.checkpoints)
            raise KilledError("somebody has deleted the Job of the run")
        if state.ended:
            raise RunFailedError(state.ended)
        message = files.progress() or {"progress": 0.0}
        if state.waits or "stage" not in message:
            message |= {"stage": WAITING, "detail": state.waits}
        return message
