"""The queue and what becomes of runs, on real SQL; the computing is the test's own."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from services.training.gate import Comparison, Decision, Measured
from services.training.metrics import TrainingMetrics
from services.training.repository import Repository, TransitionError
from services.training.run.job import Job, Trained
from services.training.run.process import GivenUpError, KilledError, RunFailedError
from services.training.runs import INTERRUPTED, Runs
from services.training.settings import TrainingSection
from slipstream.chassis.logging import carrying, request_id
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.rest import Run, RunRequest
from slipstream.evaluation.significance import Interval
from slipstream.stores.artifacts import Artifacts

TRAINED = Trained(
    lake_version=1, catalog_version=None, data_sha256="", code_commit=None, metrics={"ndcg@10": 0.1}, parameters={},
    measured=Measured(Comparison(1, 0.1, 0.1, Interval(0, 0, 0)), 1.0, 1), seconds={}, peak_memory_mb=1,
)  # fmt: skip


FITTING = {
    "stage": "fitting",
    "detail": "the transformer",
    "progress": 0.5,
    "done": 0.6,
    "epoch": 3,
    "epochs": 5,
    "loss": 1.5,
}


class Scene:
    """A queue whose computing waits for `go`, then does what `outcome` says."""

    def __init__(self, repository: Repository, artifacts: Artifacts, timeout_s: float = 60) -> None:
        self.repository, self.artifacts = repository, artifacts
        self.started, self.go, self.stop = threading.Event(), threading.Event(), threading.Event()
        self.outcome: Callable[[], Trained] = lambda: TRAINED
        self.published: list[str] = []
        self.saving = True
        self.found: list[tuple[int | None, list[str]]] = []
        self.carried: list[str] = []
        self.decided: dict[str, Decision] = {}
        self.publishing: Callable[[str], None] = lambda _: None
        self.registry = CollectorRegistry()
        self.runs = Runs(
            repository, artifacts, prepare=self.prepare, compute=self.compute, publish=self.publish, resume=self.decided.get,
            metrics=TrainingMetrics(self.registry), timeout_s=timeout_s,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.runs.work, args=(self.stop,))

    def prepare(self, run: Run, output: Path, checkpoints: Path) -> Job:
        return Job(
            version=run.run_id, profile=run.profile, namespace="t", lake=LakeSettings(), training=TrainingSection(),
            output=output, checkpoints=checkpoints, lake_version=run.lake_version,
        )  # fmt: skip

    def compute(
        self,
        job: Job,
        *,
        on_progress: Callable[[dict[str, Any]], None],
        give_up: Callable[[], bool],
    ) -> Trained:
        on_progress({"stage": "reading", "progress": 0.1, "lake_version": 4, "lake_rows": 99})
        on_progress(FITTING)
        self.found.append((job.lake_version, [file.name for file in job.checkpoints.iterdir()]))
        if self.saving:
            (job.checkpoints / f"of {job.version}").touch()
        self.started.set()
        while not self.go.wait(0.005):
            if give_up():
                raise GivenUpError
        return self.outcome()

    def publish(self, run_id: str, directory: Path, trained: Trained) -> Decision:
        self.publishing(run_id)
        self.published.append(run_id)
        self.carried.append(request_id.get())
        return Decision("promoted", "better", {})

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


@pytest.fixture
def scene(repository: Repository, artifacts: Artifacts) -> Iterator[Scene]:
    made = Scene(repository, artifacts)
    yield made
    made.end()


def fail(error: Exception) -> Callable[[], Trained]:
    def outcome() -> Trained:
        raise error

    return outcome


def test_run_succeeds_and_keeps_its_decision(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest(reason="please")).run_id
    scene.go.set()
    scene.thread.start()
    run = scene.until(run_id, "succeeded", "failed")
    assert (run.state, run.decision, run.decision_reason, run.model_version) == (
        "succeeded",
        "promoted",
        "better",
        run_id,
    )
    assert (run.progress, run.lake_version, run.metrics, run.error) == (
        1.0,
        4,
        {"ndcg@10": 0.1},
        None,
    )
    assert scene.published == [run_id]
    scene.end()
    assert scene.counted("succeeded") == 1


def test_progress_of_a_run_is_shown_while_it_goes_on_and_its_end_is_foretold_by_the_last_one(
    scene: Scene,
) -> None:
    scene.go.set()
    scene.outcome = lambda: TRAINED.model_copy(
        update={"seconds": {"reading": 1.0, "fitting": 100.0}}
    )
    scene.thread.start()
    scene.until(scene.runs.request(RunRequest()).run_id, "succeeded")
    scene.started.clear()
    scene.go.clear()
    run_id = scene.runs.request(RunRequest()).run_id
    assert scene.started.wait(60)
    run = scene.repository.get(run_id)
    assert run is not None
    assert (run.stage, run.progress, run.epoch, run.epochs, run.loss) == (
        "fitting: the transformer",
        0.5,
        3,
        5,
        1.5,
    )
    assert run.eta_s is not None
    scene.go.set()
    ended = scene.until(run_id, "succeeded")
    assert (ended.stage, ended.epoch, ended.loss, ended.eta_s) == ("", None, None, None)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RunFailedError("too little data"), "too little data"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_run_that_fails_publishes_nothing_and_the_next_goes_on(
    scene: Scene, error: Exception, told: str
) -> None:
    scene.outcome = fail(error)
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    assert scene.until(run_id, "failed").error == told
    assert scene.published == []
    scene.outcome = lambda: TRAINED
    scene.until(scene.runs.request(RunRequest()).run_id, "succeeded")


def test_runs_are_worked_off_one_at_a_time_in_order(scene: Scene) -> None:
    scene.thread.start()
    first = scene.runs.request(RunRequest(profile="fast")).run_id
    scene.until(first, "running")
    second = scene.runs.request(RunRequest(profile="best")).run_id
    third = scene.runs.request(RunRequest(profile="fast")).run_id
    assert [run.run_id for run in scene.repository.in_state("running")] == [first]
    scene.go.set()
    scene.until(third, "succeeded")
    assert scene.published == [first, second, third]


def test_request_while_one_of_the_profile_waits_returns_that_one(scene: Scene) -> None:
    first = scene.runs.request(RunRequest())
    assert scene.runs.request(RunRequest(reason="again")).run_id == first.run_id
    assert scene.runs.request(RunRequest(profile="best")).run_id != first.run_id
    assert scene.runs.request_unless_busy(RunRequest(trigger="alert")) is None


def test_cancel_queued_run_never_starts(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    assert scene.runs.cancel(run_id).state == "cancelled"
    scene.thread.start()
    scene.go.set()
    scene.until(scene.runs.request(RunRequest()).run_id, "succeeded")
    assert run_id not in scene.published


def test_cancel_running_run_stops_it(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.thread.start()
    assert scene.started.wait(60)
    scene.runs.cancel(run_id)
    assert scene.until(run_id, "cancelled").error is None
    with pytest.raises(TransitionError, match="cancelled already"):
        scene.runs.cancel(run_id)
    assert scene.published == []


def test_run_that_is_being_published_can_not_be_cancelled(scene: Scene) -> None:
    refusals: list[str] = []

    def cancel(run_id: str) -> None:
        with pytest.raises(TransitionError) as refused:
            scene.runs.cancel(run_id)
        refusals.append(str(refused.value))

    scene.publishing = cancel
    scene.go.set()
    scene.thread.start()
    run_id = scene.runs.request(RunRequest()).run_id
    assert scene.until(run_id, "succeeded", "failed", "cancelled").state == "succeeded"
    assert refusals == [f"run {run_id} is being published"]


def test_run_that_is_cancelled_when_it_has_just_been_computed_is_not_published(
    scene: Scene,
) -> None:
    run_id = scene.runs.request(RunRequest()).run_id

    def outcome() -> Trained:
        scene.runs.cancel(run_id)
        return TRAINED

    scene.outcome = outcome
    scene.go.set()
    scene.thread.start()
    scene.until(run_id, "cancelled")
    assert scene.published == []


def test_run_whose_progress_can_not_be_noted_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(scene.repository, "note", locked)
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    assert scene.until(run_id, "succeeded", "failed").state == "succeeded"


def test_run_that_had_been_decided_when_the_service_was_killed_has_succeeded(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    scene.decided[run_id] = Decision("promoted", "better", {})
    scene.runs.recover()
    run = scene.repository.get(run_id)
    assert run is not None
    assert (run.state, run.model_version, run.decision) == ("succeeded", run_id, "promoted")
    assert scene.repository.in_state("queued") == []


def test_cancel_unknown_run_raises(scene: Scene) -> None:
    with pytest.raises(LookupError, match="no run"):
        scene.runs.cancel("nope")


def test_run_over_the_time_limit_fails(repository: Repository, artifacts: Artifacts) -> None:
    scene = Scene(repository, artifacts, timeout_s=0.05)
    run_id = scene.runs.request(RunRequest()).run_id
    scene.thread.start()
    run = scene.until(run_id, "failed")
    scene.end()
    assert run.error is not None
    assert "longer than 0.05 s" in run.error


def test_stop_during_a_run_queues_its_work_again(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest(trigger="alert", reason="drift")).run_id
    scene.thread.start()
    assert scene.started.wait(60)
    scene.end()
    stopped = scene.repository.get(run_id)
    assert stopped is not None
    assert (stopped.state, stopped.error) == ("failed", INTERRUPTED)
    (again,) = scene.repository.in_state("queued")
    assert (again.trigger, again.reason, again.attempt, again.resumes) == (
        "alert",
        "drift",
        2,
        run_id,
    )
    assert stopped.resumed_by == again.run_id


def test_run_whose_process_was_killed_is_taken_up_once_and_finds_what_it_had_done(
    scene: Scene,
) -> None:
    scene.outcome = fail(KilledError("killed (signal 9)"))
    first = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    second = scene.until(first, "failed").resumed_by
    assert second is not None
    last = scene.until(second, "failed")
    assert (last.error, last.resumed_by, last.lake_version) == ("killed (signal 9)", None, 4)
    assert scene.found == [(None, []), (4, [f"of {first}"])]
    scene.end()
    assert scene.kept() == []


def test_run_that_had_nothing_to_keep_when_it_was_killed_begins_on_the_newest_data(
    scene: Scene,
) -> None:
    scene.saving, scene.outcome = False, fail(KilledError("killed (signal 9)"))
    first = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    second = scene.until(first, "failed").resumed_by
    assert second is not None
    scene.until(second, "failed")
    assert scene.found == [(None, []), (None, [])]


def test_run_that_was_killed_while_being_cancelled_is_cancelled(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id

    def outcome() -> Trained:
        scene.runs.cancel(run_id)
        raise KilledError("killed (signal 15)")

    scene.outcome = outcome
    scene.go.set()
    scene.thread.start()
    scene.until(run_id, "cancelled")
    scene.end()
    assert scene.repository.in_state("queued") == []
    assert scene.kept() == []


def test_checkpoints_stay_through_a_restart_and_go_with_the_run(
    scene: Scene, engine: Engine
) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.thread.start()
    assert scene.started.wait(60)
    scene.end()
    (scene.artifacts.root / "checkpoints" / "of a run that ended with a kill").mkdir()
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.runs.recover()
    assert restarted.kept() == [run_id]
    (waiting,) = restarted.repository.in_state("queued")
    restarted.runs.cancel(waiting.run_id)
    assert restarted.kept() == []


def test_recover_after_a_kill_takes_work_up_once_more_only(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)  # and then the process was killed
    scene.runs.recover()
    (again,) = scene.repository.in_state("queued")
    scene.repository.start(again.run_id)
    scene.runs.recover()
    assert [run.state for run in scene.repository.page(10)[0]] == ["failed", "failed"]


def test_request_id_of_each_request_is_there_when_its_run_is_published(scene: Scene) -> None:
    with carrying("r-1"):
        scene.runs.request(RunRequest(profile="fast"))
    with carrying("r-2"):
        scene.runs.request(RunRequest(profile="best"))
        scene.runs.request(RunRequest(profile="fast"))  # joins the one of r-1
    scene.go.set()
    scene.thread.start()
    last = scene.runs.request(RunRequest(profile="fast")).run_id
    scene.until(last, "succeeded")
    scene.until(scene.runs.request(RunRequest(profile="best")).run_id, "succeeded")
    assert scene.carried[:2] == ["r-1", "r-2"]
    assert set(scene.carried[2:]) <= {""}


def test_request_id_is_kept_when_a_kill_queues_the_work_again(scene: Scene, engine: Engine) -> None:
    with carrying("r-1"):
        run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.go.set()
    restarted.thread.start()
    try:
        restarted.until(run_id, "failed")
        restarted.until(restarted.repository.page(1)[0][0].run_id, "succeeded")
    finally:
        restarted.end()
    assert restarted.carried == ["r-1"]
