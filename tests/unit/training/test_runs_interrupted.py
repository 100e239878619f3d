"""Runs that a stop or a kill interrupts: ended, queued again, or put in force."""

import threading
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Engine

from services.training.gate import Decision
from services.training.mlflow_connection import RegistryUnavailableError
from services.training.registry import UnknownVersionError
from services.training.repository import Repository
from services.training.run.job import TrainingResult
from services.training.run.launcher import KilledError
from services.training.runs import INTERRUPTED
from slipstream.chassis.logging import carrying
from slipstream.contracts.rest import Run, RunRequest
from slipstream.contracts.times import now_ms
from slipstream.stores.metadata import DatabaseUnavailableError
from tests.unit.training.run_queue import Scene, fail
from tests.waiting import until


def test_run_that_had_been_decided_when_the_service_was_killed_has_succeeded(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    scene.decided[run_id] = Decision("promoted", "better", {})
    scene.runs.recover()
    run = scene.repository.get(run_id)
    assert run is not None
    assert (run.state, run.model_version, run.decision) == ("succeeded", run_id, "promoted")
    assert scene.repository.in_state("queued") == []


def test_run_whose_decision_can_never_be_put_in_force_fails_and_the_others_go_on(
    scene: Scene,
) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    scene.unsettled[run_id] = UnknownVersionError("the bundle is gone")
    following = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    scene.until(following, "succeeded")
    run = scene.repository.get(run_id)
    assert run is not None
    assert (run.state, run.error) == ("failed", "UnknownVersionError: the bundle is gone")


def test_run_that_can_not_be_settled_now_is_settled_later(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    scene.unsettled[run_id] = RegistryUnavailableError("it is starting")
    with pytest.raises(RegistryUnavailableError):
        scene.runs.recover()
    assert [run.run_id for run in scene.repository.in_state("running")] == [run_id]
    del scene.unsettled[run_id]
    scene.decided[run_id] = Decision("refused", "worse", {})
    scene.runs.recover()
    scene.until(run_id, "succeeded")


def test_run_that_is_computed_waits_for_a_server_that_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.training.run.launcher.RETRY_S", 0.01)
    away, finish = [DatabaseUnavailableError("gone")] * 2, scene.repository.finish

    def publishing(_: str) -> None:
        if away:
            raise away.pop()

    def finishing(*arguments: Any, **outcome: Any) -> Run:
        monkeypatch.setattr(scene.repository, "finish", finish)
        raise DatabaseUnavailableError("gone again")

    monkeypatch.setattr(scene.repository, "finish", finishing)
    scene.publishing = publishing
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    assert scene.until(run_id, "succeeded", "failed").state == "succeeded"
    assert (len(scene.starts), scene.published) == (1, [run_id])


def test_run_that_waits_for_a_server_at_a_stop_is_settled_at_the_next_start(
    scene: Scene, engine: Engine
) -> None:
    waits = threading.Event()

    def publishing(_: str) -> None:
        waits.set()
        raise DatabaseUnavailableError("gone")

    scene.publishing = publishing
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    assert waits.wait(60)
    scene.end()
    assert [run.run_id for run in scene.repository.in_state("running")] == [run_id]
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.decided[run_id] = Decision("promoted", "better", {})
    restarted.runs.recover()
    restarted.until(run_id, "succeeded")


def test_stop_during_a_run_queues_it_again(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest(trigger="alert", reason="drift")).run_id
    scene.thread.start()
    assert scene.started.wait(60)
    scene.end()
    (again,) = scene.repository.in_state("queued")
    assert (again.run_id, again.attempt, again.error) == (run_id, 2, INTERRUPTED)
    assert (scene.counted("failed"), scene.failures) == (None, [])


def test_run_that_goes_on_elsewhere_is_awaited_by_the_next_service(
    scene: Scene, engine: Engine
) -> None:
    with carrying("r-1"):
        run_id = scene.runs.request(RunRequest()).run_id
    following = scene.runs.request(RunRequest(profile="best")).run_id
    scene.thread.start()
    assert scene.started.wait(60)
    scene.elsewhere = {run_id}
    scene.end()
    assert [run.run_id for run in scene.repository.in_state("running")] == [run_id]
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.elsewhere = {run_id, "of a run that ended with a kill"}
    restarted.go.set()
    restarted.thread.start()
    try:
        run = restarted.until(run_id, "succeeded", "failed")
        restarted.until(following, "succeeded")
    finally:
        restarted.end()
    assert (run.state, run.attempt) == ("succeeded", 1)
    assert restarted.published == [run_id, following]
    assert restarted.carried[0] == "r-1"
    assert restarted.elsewhere == set()


def test_run_elsewhere_has_the_time_that_is_left_of_its_own(scene: Scene, engine: Engine) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    restarted = Scene(Repository(engine), scene.artifacts, timeout_s=0)
    restarted.elsewhere = {run_id}
    restarted.thread.start()
    try:
        run = restarted.until(run_id, "failed")
    finally:
        restarted.end()
    assert run.error is not None
    assert "took longer than" in run.error
    assert restarted.elsewhere == set()


def test_time_in_a_queue_of_machines_does_not_count_after_a_restart_either(
    scene: Scene, engine: Engine
) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    just_now = {"step": "test", "start": now_ms(), "began_at": 0, "ended_at": 0}
    scene.repository.note(run_id, started_at=1, stage="starting", usage=[just_now])
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.elsewhere = {run_id}
    restarted.thread.start()
    try:
        until(lambda: restarted.asked >= 2)
        assert restarted.until(run_id, "running")
        restarted.go.set()
        assert restarted.until(run_id, "succeeded", "failed").state == "succeeded"
    finally:
        restarted.end()


def test_run_whose_process_was_killed_starts_again_once_and_finds_what_it_had_done(
    scene: Scene,
) -> None:
    scene.outcome = fail(KilledError("killed (signal 9)"))
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    last = scene.until(run_id, "failed")
    assert (last.error, last.attempt, last.lake_version) == ("killed (signal 9)", 2, 4)
    assert scene.starts == [(None, []), (4, [f"of {run_id}"])]
    scene.end()
    assert scene.names == [run_id, f"{run_id}-2"] == scene.forgotten
    assert scene.kept() == []
    assert (scene.counted("failed"), scene.failures) == (1, [run_id])


def test_run_that_had_nothing_to_keep_when_it_was_killed_begins_on_the_newest_data(
    scene: Scene,
) -> None:
    scene.saving, scene.outcome = False, fail(KilledError("killed (signal 9)"))
    run_id = scene.runs.request(RunRequest()).run_id
    scene.go.set()
    scene.thread.start()
    scene.until(run_id, "failed")
    assert scene.starts == [(None, []), (None, [])]


def test_run_that_is_cancelled_as_it_is_queued_again_does_not_start_again(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    queue_again, seen = scene.repository.queue_again, scene.repository.get(run_id)
    get = scene.repository.get

    def cancelled_meanwhile(*arguments: str) -> Run:
        queued = queue_again(*arguments)
        with mock.patch.object(scene.repository, "get", lambda _: running):
            scene.runs.cancel(run_id)  # it has read the record before
        return queued

    running = (seen or get(run_id)).model_copy(update={"state": "running"})  # type: ignore[union-attr]
    scene.outcome = fail(KilledError("killed (signal 9)"))
    scene.go.set()
    with mock.patch.object(scene.repository, "queue_again", cancelled_meanwhile):
        scene.thread.start()
        scene.until(run_id, "cancelled")
    scene.end()
    assert scene.published == []


def test_run_that_was_killed_while_being_cancelled_is_cancelled(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id

    def outcome() -> TrainingResult:
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


def test_recover_after_a_kill_queues_a_run_again_once_only(scene: Scene) -> None:
    run_id = scene.runs.request(RunRequest()).run_id
    for state in ("queued", "failed"):
        scene.repository.start(run_id)  # and then the process was killed
        scene.runs.recover()
        assert scene.repository.page(10)[0][0].state == state
    assert len(scene.repository.page(10)[0]) == 1


def test_request_id_is_kept_when_a_kill_queues_the_run_again(scene: Scene, engine: Engine) -> None:
    with carrying("r-1"):
        run_id = scene.runs.request(RunRequest()).run_id
    scene.repository.start(run_id)
    restarted = Scene(Repository(engine), scene.artifacts)
    restarted.go.set()
    restarted.thread.start()
    try:
        restarted.until(run_id, "succeeded")
    finally:
        restarted.end()
    assert restarted.carried == ["r-1"]
