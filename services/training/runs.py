"""Queue of training runs: kept in SQL, worked off one at a time, each by a launcher.

A run can be cancelled, and its end is recorded whatever happens. Its checkpoints are directories
that outlive a killed process, until the run has ended. Messages of its process become the progress
in the run's record.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from services.training.gate import Decision
from services.training.metrics import TrainingMetrics
from services.training.records import ENDED, KeyTakenError, TransitionError
from services.training.repository import Repository
from services.training.run.job import FACTS, Job, TrainingResult
from services.training.run.launcher import (
    GivenUpError,
    KilledError,
    Launcher,
    PostponedError,
    RunFailedError,
    until_answered,
)
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.logging import carrying, get_logger, request_id
from slipstream.contracts.rest import Run, RunRequest
from slipstream.contracts.times import now_ms
from slipstream.stores.artifacts import Artifacts


class Checkpoints:
    """Directories by run."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, run_id: str) -> Path:
        """The run's directory, made where there is none, with the files of an earlier attempt."""
        directory = self._root / run_id
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def drop(self, run_id: str) -> None:
        """Delete the directory of a run that has ended."""
        shutil.rmtree(self._root / run_id, ignore_errors=True)

    def keep_only(self, run_ids: Collection[str]) -> None:
        """Drop all others, which a killed service could not drop."""
        for directory in self._root.glob("*"):
            if directory.name not in run_ids:
                self.drop(directory.name)


def attempt_name(run: Run) -> str:
    """The name of this attempt's files and process.

    So a process of an earlier attempt that was lost misses its job, and can't answer for this one.
    """
    return run.run_id if run.attempt == 1 else f"{run.run_id}-{run.attempt}"


def new_run_id() -> str:
    """A new id: the time and a random part, so that ids sort by time and none is used twice.

    A run's model has it as its version.
    """
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


log = get_logger(__name__)


# Attempts at a run that a stop or a kill interrupts: one that kills the service each time must not
# do so for ever.
MOST_ATTEMPTS = 2

INTERRUPTED = "the service stopped while the run was under way"


class Runs:
    """The queue and its worker. `request`, `cancel` may be called from any thread; `work` runs in
    one.

    Args:
        artifacts: Store of the bundles and checkpoints.
        prepare: Makes a run's job, with the paths of its output and its checkpoints.
        publish: Takes the bundle of a run into the registry; returns the gate's decision.
        resume: Puts the decision of a run in force that a killed service had come to; None where
            there is none.
        timeout_s: Seconds after which a run is stopped.
        failed: Takes note of a run that has ended without a decision.
        onset: Tells when the shift began that an alert is open on (ms); None without one.
    """

    def __init__(
        self,
        repository: Repository,
        artifacts: Artifacts,
        *,
        prepare: Callable[[Run, Path, Path], Job],
        launcher: Launcher,
        publish: Callable[[str, Path, TrainingResult], Decision],
        resume: Callable[[str], Decision | None],
        metrics: TrainingMetrics,
        timeout_s: float,
        failed: Callable[[Run], None] = lambda _: None,
        onset: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._repository, self._artifacts, self._metrics = repository, artifacts, metrics
        self._checkpoints = Checkpoints(artifacts.root / "checkpoints")
        self._prepare, self._launcher = prepare, launcher
        self._publish, self._resume = publish, resume
        self._timeout_s, self._note_failure, self._onset = timeout_s, failed, onset
        self._asking = threading.Lock()
        self._queued = threading.Event()
        self._cancelling = threading.Lock()
        self._cancelled: set[str] = set()
        self._publishing: str | None = None

    def request(self, request: RunRequest) -> Run:
        """Queue a run, which keeps the id of the present HTTP request.

        A run of the same profile that is queued already is returned instead: it has not read the
        lake yet, so it will see the same data. One that was killed may not, and does not count. A
        key has a run of its own, which all requests with the key get.

        Raises KeyTakenError for a key that was used with other options.
        """
        with self._asking:
            if request.key is not None:
                return self._keyed(request, request.key)
            queued = self._repository.in_state("queued")
            waiting = [
                run
                for run in queued
                if run.profile == request.profile and run.attempt == 1 and run.key is None
            ]
            run = waiting[0] if waiting else self._add(request)
        event = "a run of the profile is queued already" if waiting else "run queued"
        log.info(event, run_id=run.run_id, trigger=request.trigger, reason=request.reason)
        self._queued.set()
        return run

    def _keyed(self, request: RunRequest, key: str) -> Run:
        run = self._repository.get(key) or self._add(request)
        options = request.model_dump(exclude={"key"})
        if options != run.model_dump(include={*options}):
            raise KeyTakenError(
                f"key {key} was used with other options: run {run.run_id} has profile "
                f"{run.profile}, trigger {run.trigger} and reason {run.reason!r}"
            )
        log.info("run of a key", run_id=run.run_id, key=key, state=run.state)
        self._queued.set()
        return run

    def request_unless_busy(self, request: RunRequest) -> Run | None:
        """Queue a run that no person requested; None if a run is queued or running already."""
        if self._repository.in_state("queued", "running"):
            return None
        return self.request(request)

    def cancel(self, run_id: str) -> Run:
        """Take a run, by id or key, off the queue, or stop it: it is `cancelled` a moment later.

        Raises LookupError for an unknown run. Raises TransitionError once the run has ended, and
        while it is being published: its model may be the champion in a moment.
        """
        run = self._repository.get(run_id)
        if run is None:
            raise LookupError(f"there is no run {run_id}")
        run_id = run.run_id
        if run.state in ENDED:
            raise TransitionError(f"run {run_id} is {run.state} already")
        with self._cancelling:
            if run_id == self._publishing:
                raise TransitionError(f"run {run_id} is being published")
            self._cancelled.add(run_id)
        if run.state == "queued":
            try:
                return self._ended(run_id, "cancelled")
            except TransitionError:  # it began just now, and `work` sees the cancellation
                return self._repository.get(run_id) or run
        return run

    def recover(self) -> list[Run]:
        """Settle the runs that an earlier service left; returns those that go on elsewhere."""
        self._artifacts.sweep()
        going_on = []
        for run in self._repository.in_state("running"):
            with carrying(self._repository.request_id(run.run_id)):
                if not self._settle(run):
                    going_on.append(run)
        open_runs = [*going_on, *self._repository.in_state("queued")]
        self._checkpoints.keep_only({run.run_id for run in open_runs})
        self._launcher.forget_all_but({attempt_name(run) for run in going_on})
        return going_on

    def work(self, stop: threading.Event) -> None:
        """Work off the queue until `stop` is set.

        A run under way is then killed and queued, or goes on elsewhere.
        """
        for run in self.recover():
            log.info("run goes on", run_id=run.run_id)
            with carrying(self._repository.request_id(run.run_id)):
                self._execute(run, stop)
        while not stop.is_set():
            waiting = self._repository.in_state("queued")
            if waiting:
                run_id = waiting[0].run_id
                with carrying(self._repository.request_id(run_id)):
                    self._start(run_id, stop)
            else:
                self._queued.wait(0.5)
                self._queued.clear()

    def _start(self, run_id: str, stop: threading.Event) -> None:
        try:
            run = self._repository.start(run_id)
        except TransitionError:  # cancelled in the meantime
            return
        about = run.model_dump(include={"trigger", "reason", "profile"})
        log.info("run started", run_id=run_id, **about)
        self._execute(run, stop)

    def _execute(self, run: Run, stop: threading.Event) -> None:
        run_id = run.run_id
        deadline = time.monotonic() + self._timeout_s - max(0, now_ms() - self._began(run)) / 1000

        def give_up(held: bool) -> bool:
            nonlocal deadline
            if held:
                deadline = time.monotonic() + self._timeout_s
            return run_id in self._cancelled or time.monotonic() > deadline

        self._metrics.running.set(1)
        try:
            with self._artifacts.workspace() as place:
                output = place / "bundle"
                trained = self._launcher.run(
                    self._job(run, output),
                    on_progress=partial(self._note_progress, run_id),
                    give_up=give_up,
                    stop=stop,
                )
                self._begin_publishing(run_id)
                # What took hours is not thrown away because a server does not answer for a while.
                decision = until_answered(lambda: self._publish(run_id, output, trained), stop)
            until_answered(lambda: self._succeeded(run_id, decision, trained.metrics), stop)
        except (GivenUpError, KilledError) as error:
            self._stopped(run, stop, killed=str(error))
        except RunFailedError as error:
            self._ended(run_id, "failed", error=str(error))
        except PostponedError as error:
            log.warning("run is left to the next start", run_id=run_id, reason=str(error))
            return
        except Exception as error:
            self._failed(run_id, error)
        finally:
            self._metrics.running.set(0)
            with self._cancelling:
                self._publishing = None
        self._launcher.forget(attempt_name(run))

    def _note_progress(self, run_id: str, message: dict[str, Any]) -> None:
        """Record a message of a run, see `ProgressReporter`.

        It is for people who watch: one that can't be written is logged, and ends no run.
        """
        facts = {name: message[name] for name in FACTS if name in message}
        fitting = {name: message.get(name) for name in ("epoch", "epochs", "loss")}
        stage = ": ".join(filter(None, (message["stage"], message.get("detail"))))
        try:
            self._repository.note(
                run_id, stage=stage, progress=message["progress"], **fitting, **facts
            )
        except Exception as error:
            log.warning(
                "progress not noted", run_id=run_id, stage=message["stage"], reason=str(error)
            )

    def _began(self, run: Run) -> int:
        """When the run's time began (ms): with its first process, which a queue may have held back
        for long, or before that when it was taken off our own queue.
        """
        began = run.started_at or now_ms()
        usage = self._repository.reported(run.run_id).usage
        return next((used.start for used in usage if used.start > began), began)

    def _job(self, run: Run, output: Path) -> Job:
        checkpoints = self._checkpoints.of(run.run_id)
        # Checkpoints belong to the versions of the lake that they were made on; without any, the
        # run reads the newest, unless its key stands for what was read first.
        if run.key is None and not any(checkpoints.iterdir()):
            run = run.model_copy(update={"lake_version": None, "catalog_version": None})
        job = self._prepare(run, output, checkpoints)
        return job.model_copy(update={"attempt": attempt_name(run), "pinned": run.key is not None})

    def _begin_publishing(self, run_id: str) -> None:
        """From here on the run can't be cancelled. Raises GivenUpError when it has been already."""
        with self._cancelling:
            if run_id in self._cancelled:
                raise GivenUpError
            self._publishing = run_id
        self._note_progress(run_id, {"stage": "publishing", "progress": 0.99})

    def _settle(self, run: Run) -> bool:
        """End a run that an earlier service left under way; False where it goes on elsewhere.

        It has succeeded if it had come to a decision; else it is queued again. A decision that can
        never be put in force fails this run alone.
        """
        try:
            decision = self._resume(run.run_id)
        except DependencyUnavailableError:
            raise
        except Exception as error:  # it would be the same at each start
            self._failed(run.run_id, error)
            return True
        if decision is not None:
            self._succeeded(run.run_id, decision)
        elif self._launcher.goes_on(attempt_name(run)):
            return False
        else:
            self._interrupted(run, INTERRUPTED)
        return True

    def _failed(self, run_id: str, error: Exception) -> None:
        log.error("run failed", run_id=run_id, exc_info=error)
        self._ended(run_id, "failed", error=f"{type(error).__name__}: {error}")

    def _succeeded(
        self, run_id: str, decision: Decision, metrics: Mapping[str, float] | None = None
    ) -> None:
        self._ended(
            run_id,
            "succeeded",
            stage="",
            progress=1.0,
            model_version=run_id,
            decision=decision.outcome,
            decision_reason=decision.reason,
            metrics=dict(metrics or {}),
        )

    def _stopped(self, run: Run, stop: threading.Event, killed: str) -> None:
        """End a run that was stopped: cancelled, killed with the service or alone, or too long.

        `killed` says how its process was ended from outside; empty where it was not.
        """
        if run.run_id in self._cancelled:
            self._ended(run.run_id, "cancelled")
        elif stop.is_set() or killed:
            self._interrupted(run, INTERRUPTED if stop.is_set() else killed)
        else:
            self._ended(
                run.run_id,
                "failed",
                error=f"took longer than {self._timeout_s:g} s "
                "(SLIPSTREAM_TRAINING__RUN_TIMEOUT_S)",
            )

    def _interrupted(self, run: Run, error: str) -> None:
        """Queue the run again, or fail it after its last attempt."""
        if run.attempt < MOST_ATTEMPTS:
            self._repository.queue_again(run.run_id, error)
            log.warning("run is queued again", run_id=run.run_id, reason=error)
        else:
            self._ended(run.run_id, "failed", error=error)

    def _add(self, request: RunRequest) -> Run:
        return self._repository.add(
            new_run_id(),
            request.trigger,
            request.reason,
            request.profile,
            request_id.get(),
            request.key,
            self._onset(),
        )

    def _ended(self, run_id: str, state: str, **outcome: Any) -> Run:
        run = self._repository.finish(run_id, state, **outcome)
        self._checkpoints.drop(run_id)
        with self._cancelling:
            self._cancelled.discard(run_id)
        self._account(run)
        if state != "succeeded":
            self._note_failure(run)
        return run

    def _account(self, run: Run) -> None:
        self._metrics.runs.labels(run.state).inc()
        if run.started_at is not None and run.finished_at is not None:
            self._metrics.seconds.labels(run.state).observe(
                (run.finished_at - run.started_at) / 1000
            )
        emit = log.warning if run.state == "failed" else log.info
        about = run.model_dump(include={"state", "error", "decision", "attempt"})
        emit("run ended", run_id=run.run_id, **about)
