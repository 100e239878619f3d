"""Runs: queued in SQL, one at a time, each in a process of its own, cancellable, accounted for
whatever happens.
"""

import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from services.training.gate import Decision
from services.training.metrics import TrainingMetrics
from services.training.repository import ENDED, Repository, TransitionError
from services.training.run.checkpoints import Checkpoints
from services.training.run.eta import Eta
from services.training.run.job import Job, TrainingResult
from services.training.run.process import GivenUpError, KilledError, RunFailedError
from slipstream.chassis.logging import carrying, get_logger, request_id
from slipstream.contracts.rest import Run, RunRequest
from slipstream.contracts.times import now_ms
from slipstream.stores.artifacts import Artifacts

log = get_logger(__name__)

# How often work is tried that a stop or a kill interrupts: what stops the service each time must
# not do so for ever.
MOST_ATTEMPTS = 2

_FACTS = ("lake_version", "lake_rows", "catalog_version")

INTERRUPTED = "the service stopped while the run was under way"


class Compute(Protocol):
    """Trains, elsewhere; see `process.run_in_child`."""

    def __call__(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[], bool],
    ) -> TrainingResult: ...


class Runs:
    """The queue and what works it off. `request`, `cancel` may be called from any thread; `work`
    runs in one.
    """

    def __init__(
        self,
        repository: Repository,
        artifacts: Artifacts,
        *,
        prepare: Callable[[Run, Path, Path], Job],
        compute: Compute,
        publish: Callable[[str, Path, TrainingResult], Decision],
        resume: Callable[[str], Decision | None],
        metrics: TrainingMetrics,
        timeout_s: float,
    ) -> None:
        self._repository, self._artifacts, self._metrics, self._timeout_s = (
            repository,
            artifacts,
            metrics,
            timeout_s,
        )
        self._checkpoints = Checkpoints(artifacts.root / "checkpoints")
        self._prepare, self._compute, self._publish, self._resume = (
            prepare,
            compute,
            publish,
            resume,
        )
        self._asking = threading.Lock()
        self._queued = threading.Event()
        self._cancelling = threading.Lock()
        self._cancelled: set[str] = set()
        self._publishing: str | None = None

    def request(self, asked: RunRequest) -> Run:
        """Queue a run, which keeps the id of the present request. One of the same profile that is
        queued already is returned instead: it has not read the lake yet, and will see the same data
        (one that goes on with a killed run's work will not).
        """
        with self._asking:
            queued = self._repository.in_state("queued")
            waiting = [
                run for run in queued if run.profile == asked.profile and run.resumes is None
            ]
            run = waiting[0] if waiting else self._add(asked)
        told = "a run of the profile is queued already" if waiting else "run queued"
        log.info(told, run_id=run.run_id, trigger=asked.trigger, reason=asked.reason)
        self._queued.set()
        return run

    def request_unless_busy(self, asked: RunRequest) -> Run | None:
        """For runs that nobody asked for: None when one is queued or running."""
        if self._repository.in_state("queued", "running"):
            return None
        return self.request(asked)

    def cancel(self, run_id: str) -> Run:
        """Take a run off the queue, or stop it: it is `cancelled` a moment later. Raises
        TransitionError once it has ended, and while it is being published: its model may be the
        champion in a moment.
        """
        run = self._repository.get(run_id)
        if run is None:
            raise LookupError(f"there is no run {run_id}")
        if run.state in ENDED:
            raise TransitionError(f"run {run_id} is {run.state} already")
        with self._cancelling:
            if run_id == self._publishing:
                raise TransitionError(f"run {run_id} is being published")
            self._cancelled.add(run_id)
        if run.state == "queued":
            try:
                return self._ended(run_id, "cancelled")
            except TransitionError:  # it began just now, and `work` sees the wish
                return self._repository.get(run_id) or run
        return run

    def recover(self) -> None:
        """Settle what a killed service left: nothing is under way when a service starts."""
        self._artifacts.sweep()
        for run in self._repository.in_state("running"):
            with carrying(self._repository.request_id(run.run_id)):
                self._settle(run)
        self._checkpoints.keep_only({work_of(run) for run in self._repository.in_state("queued")})

    def work(self, stop: threading.Event) -> None:
        """Work off the queue until `stop` is set; a run under way is then killed and queued again."""
        self.recover()
        while not stop.is_set():
            waiting = self._repository.in_state("queued")
            if waiting:
                run_id = waiting[0].run_id
                with carrying(self._repository.request_id(run_id)):
                    self._execute(run_id, stop)
            else:
                self._queued.wait(0.2)
                self._queued.clear()

    def _execute(self, run_id: str, stop: threading.Event) -> None:
        try:
            run = self._repository.start(run_id)
        except TransitionError:  # cancelled in the meantime
            return
        log.info(
            "run started",
            run_id=run_id,
            trigger=run.trigger,
            reason=run.reason,
            profile=run.profile,
        )
        deadline = time.monotonic() + self._timeout_s

        def give_up() -> bool:
            return stop.is_set() or run_id in self._cancelled or time.monotonic() > deadline

        self._metrics.running.set(1)
        try:
            with self._artifacts.workspace() as place:
                output = place / "bundle"
                trained = self._compute(
                    self._job(run, output), on_progress=self._noting(run), give_up=give_up
                )
                self._begin_publishing(run_id)
                decision = self._publish(run_id, output, trained)
            self._succeeded(run_id, decision, metrics=trained.metrics, seconds=trained.seconds)
        except (GivenUpError, KilledError) as error:
            self._stopped(run, stop, killed=str(error))
        except RunFailedError as error:
            self._ended(run_id, "failed", error=str(error))
        except Exception as error:
            log.error("run failed", run_id=run_id, exc_info=error)
            self._ended(run_id, "failed", error=f"{type(error).__name__}: {error}")
        finally:
            self._metrics.running.set(0)
            with self._cancelling:
                self._publishing = None
                self._cancelled.discard(run_id)

    def _job(self, run: Run, output: Path) -> Job:
        checkpoints = self._checkpoints.of(work_of(run))
        if not any(
            checkpoints.iterdir()
        ):  # what was done belongs to the data that it was done on; nothing was
            run = run.model_copy(update={"lake_version": None, "catalog_version": None})
        return self._prepare(run, output, checkpoints)

    def _begin_publishing(self, run_id: str) -> None:
        """From here on the run can't be cancelled. Raises GivenUpError when somebody was faster."""
        with self._cancelling:
            if run_id in self._cancelled:
                raise GivenUpError
            self._publishing = run_id
        self._note(run_id, {"stage": "publishing", "progress": 0.99}, None)

    def _settle(self, run: Run) -> None:
        """A run that a killed service left under way: done if it had come to a decision, else to be
        taken up again.
        """
        decision = self._resume(run.run_id)
        if decision is not None:
            self._succeeded(run.run_id, decision)
        else:
            self._interrupted(run, INTERRUPTED)

    def _succeeded(self, run_id: str, decision: Decision, **found: dict[str, float]) -> None:
        self._ended(
            run_id,
            "succeeded",
            stage="",
            progress=1.0,
            model_version=run_id,
            decision=decision.outcome,
            decision_reason=decision.reason,
            **found,
        )

    def _stopped(self, run: Run, stop: threading.Event, killed: str) -> None:
        """A run did not come to its end: because of us, or because its process was `killed`, which
        says how.
        """
        if run.run_id in self._cancelled:
            self._ended(run.run_id, "cancelled")
        elif stop.is_set() or killed:
            self._interrupted(run, INTERRUPTED if stop.is_set() else killed)
        else:
            self._ended(
                run.run_id,
                "failed",
                error=f"took longer than {self._timeout_s:g} s (SLIPSTREAM_TRAINING__RUN_TIMEOUT_S)",
            )

    def _interrupted(self, run: Run, error: str) -> None:
        """The run failed; another takes its work up, unless that happened before."""
        if run.attempt < MOST_ATTEMPTS:
            self._account(self._repository.resume(run.run_id, new_run_id(), error))
        else:
            self._ended(run.run_id, "failed", error=error)

    def _add(self, asked: RunRequest) -> Run:
        return self._repository.add(
            new_run_id(), asked.trigger, asked.reason, asked.profile, request_id.get()
        )

    def _noting(self, run: Run) -> Callable[[dict[str, Any]], None]:
        """What notes a run's messages. A second attempt is quick where the first one has been: when
        it ends can't be told.
        """
        eta = (
            Eta(self._repository.stage_seconds(run.profile), time.monotonic())
            if run.attempt == 1
            else None
        )

        def note(message: dict[str, Any]) -> None:
            left_s = (
                eta.left_s(
                    message["stage"], message["progress"], message.get("done"), time.monotonic()
                )
                if eta
                else None
            )
            self._note(
                run.run_id, message, None if left_s is None else now_ms() + int(left_s * 1000)
            )

        return note

    def _note(self, run_id: str, message: dict[str, Any], expected_at: int | None) -> None:
        """Progress is for those who watch: that it can't be written ends no run."""
        facts = {name: message[name] for name in _FACTS if name in message}
        fitting = {name: message.get(name) for name in ("epoch", "epochs", "loss")}
        stage = ": ".join(filter(None, (message["stage"], message.get("detail"))))
        try:
            self._repository.note(
                run_id,
                stage=stage,
                progress=message["progress"],
                expected_at=expected_at,
                **fitting,
                **facts,
            )
        except Exception as error:
            log.warning(
                "progress not noted", run_id=run_id, stage=message.get("stage"), reason=str(error)
            )

    def _ended(self, run_id: str, state: str, **outcome: Any) -> Run:
        run = self._repository.finish(run_id, state, **outcome)
        self._checkpoints.drop(work_of(run))
        self._account(run)
        return run

    def _account(self, run: Run) -> None:
        self._metrics.runs.labels(run.state).inc()
        if run.started_at is not None and run.finished_at is not None:
            self._metrics.seconds.labels(run.state).observe(
                (run.finished_at - run.started_at) / 1000
            )
        emit = log.warning if run.state == "failed" else log.info
        emit(
            "run ended",
            run_id=run.run_id,
            state=run.state,
            error=run.error,
            decision=run.decision,
            resumed_by=run.resumed_by,
        )


def work_of(run: Run) -> str:
    """What all attempts at the same work have in common."""
    return run.resumes or run.run_id


def new_run_id() -> str:
    """The time and a random part: sorts by time, and is never used twice. A run's model has it as
    its version.
    """
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
