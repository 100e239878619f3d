"""The queue and the ends of its runs, on real SQL; the test does the computing."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from services.training.records import TransitionError
from services.training.repository import Repository
from services.training.run.job import TrainingResult
from services.training.run.launcher import RunFailedError
from services.training.runs import Checkpoints
from slipstream.chassis.logging import carrying
from slipstream.contracts.rest import RunRequest
from slipstream.stores.artifacts import Artifacts
from tests.unit.training.run_queue import RESULT, Scene, fail
from tests.waiting import until


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


def test_progress_of_a_run_is_shown_while_it_goes_on(scene: Scene) -> None:
    scene.thread.start()
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
    scene.go.set()
    ended = scene.until(run_id, "succeeded")
    assert (ended.stage, ended.epoch, ended.loss) == ("", None, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunFailedError("too little data"), "too little data"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_run_that_fails_publishes_nothing_and_the_next_goes_on(
    scene: Scene, error: Exception, reason: str
) -> None:
    scene.outcome = fail(error)
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    assert scene.until(run_id, "failed").error == reason
    assert scene.published == []
    scene.outcome = lambda: RESULT
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

    def outcome() -> TrainingResult:
        scene.runs.cancel(run_id)
        return RESULT

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


def test_the_time_of_a_run_does_not_run_while_a_queue_of_its_machines_holds_it(
    repository: Repository, artifacts: Artifacts
) -> None:
    scene = Scene(repository, artifacts, timeout_s=0.05)
    scene.held = True
    run_id = scene.runs.request(RunRequest()).run_id
    scene.thread.start()
    try:
        until(lambda: scene.asked >= 20)  # each some milliseconds after the one before
        assert scene.until(run_id, "running")
        scene.held = False
        run = scene.until(run_id, "failed")
    finally:
        scene.end()
    assert run.error is not None
    assert "longer than 0.05 s" in run.error


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


def test_directory_of_a_work_is_the_same_until_it_is_dropped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "made later")
    checkpoints.keep_only([])
    checkpoints.drop("never begun")
    (checkpoints.of("a") / "epoch-1").touch()
    checkpoints.of("b")
    assert [file.name for file in Checkpoints(tmp_path / "made later").of("a").iterdir()] == [
        "epoch-1"
    ]
    checkpoints.keep_only(["b"])
    assert list(checkpoints.of("a").iterdir()) == []
    checkpoints.drop("a")
    assert [directory.name for directory in (tmp_path / "made later").iterdir()] == ["b"]
