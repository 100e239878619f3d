"""A queue of runs on real SQL; the test computes them itself."""

import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.training.gate import Comparison, Decision, Measurements
from services.training.metrics import TrainingMetrics
from services.training.repository import Repository
from services.training.run.job import Job, TrainingResult
from services.training.run.launcher import GivenUpError, PostponedError
from services.training.runs import Runs
from slipstream.chassis.logging import request_id
from slipstream.contracts.rest import Run
from slipstream.evaluation.significance import Interval
from slipstream.stores.artifacts import Artifacts
from tests.unit.training.jobs import job_of

RESULT = TrainingResult(
    lake_version=1,
    catalog_version=None,
    data_sha256="",
    code_commit=None,
    metrics={"ndcg@10": 0.1},
    parameters={},
    measured=Measurements(Comparison(1, 0.1, 0.1, Interval(0, 0, 0)), 1.0, 1),
    seconds={},
    peak_memory_mb=1,
)


FITTING = {
    "stage": "fitting",
    "detail": "the transformer",
    "progress": 0.5,
    "epoch": 3,
    "epochs": 5,
    "loss": 1.5,
}


class Scene:
    """A queue with a computation that waits for `go`, then does what `outcome` says.

    The runs in `elsewhere` go on while the service is unavailable. A `held` one is held back by a
    queue of its machines.
    """

    def __init__(self, repository: Repository, artifacts: Artifacts, timeout_s: float = 60) -> None:
        self.repository, self.artifacts = repository, artifacts
        self.started, self.go, self.stop = threading.Event(), threading.Event(), threading.Event()
        self.outcome: Callable[[], TrainingResult] = lambda: RESULT
        self.published: list[str] = []
        self.saving = True
        self.starts: list[tuple[int | None, list[str]]] = []
        self.carried: list[str] = []
        self.names: list[str] = []
        self.forgotten: list[str] = []
        self.failures: list[str] = []
        self.decided: dict[str, Decision] = {}
        self.unsettled: dict[str, Exception] = {}
        self.elsewhere: set[str] = set()
        self.held, self.asked = False, 0
        self.publishing: Callable[[str], None] = lambda _: None
        self.registry = CollectorRegistry()
        self.runs = Runs(
            repository,
            artifacts,
            prepare=self.prepare,
            launcher=self,
            publish=self.publish,
            resume=self.resume,
            metrics=TrainingMetrics(self.registry),
            timeout_s=timeout_s,
            failed=lambda run: self.failures.append(run.run_id),
        )
        self.thread = threading.Thread(target=self.runs.work, args=(self.stop,))

    def prepare(self, run: Run, output: Path, checkpoints: Path) -> Job:
        return job_of(
            output.parent,
            version=run.run_id,
            output=output,
            profile=run.profile,
            checkpoints=checkpoints,
            lake_version=run.lake_version,
        )

    def run(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[bool], bool],
        stop: threading.Event,
    ) -> TrainingResult:
        on_progress({"stage": "reading", "progress": 0.1, "lake_version": 4, "lake_rows": 99})
        on_progress(FITTING)
        self.names.append(job.name)
        self.starts.append((job.lake_version, [file.name for file in job.checkpoints.iterdir()]))
        if self.saving:
            (job.checkpoints / f"of {job.version}").touch()
        self.started.set()
        while not self.go.wait(0.005):
            if stop.is_set() and self.elsewhere:
                raise PostponedError("the run goes on elsewhere")
            self.asked += 1
            if stop.is_set() or give_up(self.held):
                raise GivenUpError
        return self.outcome()

    def goes_on(self, run_id: str) -> bool:
        return run_id in self.elsewhere

    def forget(self, run_id: str) -> None:
        self.elsewhere.discard(run_id)
        self.forgotten.append(run_id)

    def forget_all_but(self, run_ids: Collection[str]) -> None:
        self.elsewhere &= {*run_ids}

    def publish(self, run_id: str, directory: Path, trained: TrainingResult) -> Decision:
        self.publishing(run_id)
        self.published.append(run_id)
        self.carried.append(request_id.get())
        return Decision("promoted", "better", {})

    def resume(self, run_id: str) -> Decision | None:
        if run_id in self.unsettled:
            raise self.unsettled[run_id]
        return self.decided.get(run_id)

    def until(self, run_id: str, *states: str) -> Run:
        deadline = time.monotonic() + 60
        while (run := self.repository.get(run_id)) is None or run.state not in states:
            assert time.monotonic() < deadline, f"{run} never became {states}"
            time.sleep(0.005)
        return run

    def kept(self) -> list[str]:
        """Of which runs there are checkpoints."""
        return sorted(
            directory.name for directory in (self.artifacts.root / "checkpoints").iterdir()
        )

    def counted(self, state: str) -> float | None:
        return self.registry.get_sample_value("slipstream_training_runs_total", {"state": state})

    def end(self) -> None:
        self.stop.set()
        if self.thread.ident is not None:
            self.thread.join(60)
            assert not self.thread.is_alive()


def fail(error: Exception) -> Callable[[], TrainingResult]:
    def outcome() -> TrainingResult:
        raise error

    return outcome
