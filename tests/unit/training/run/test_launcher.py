"""Runs on other machines, as the service sees them: handed over, looked at, collected, dropped."""

import threading
from pathlib import Path
from typing import Any

import pytest

from services.training.run.exchange import Exchange
from services.training.run.launcher import (
    GivenUpError,
    KilledError,
    Launcher,
    PostponedError,
    RunFailedError,
    Starter,
    StarterUnavailableError,
    StartState,
)
from slipstream.contracts.steps import WAITING
from slipstream.stores.object_store import ObjectStore
from tests.unit.training.jobs import job_of
from tests.unit.training.run_queue import RESULT


class Machine:
    """A machine elsewhere that goes through some steps, one at each look at its state."""

    local = False

    def __init__(self, tmp_path: Path) -> None:
        self.exchange = Exchange(ObjectStore(str(tmp_path / "exchange")))
        self.files = self.exchange.of("v1")
        self.launcher = Launcher(self.exchange, self, look_s=0.001)
        self.steps: list[Any] = []
        self.started: list[tuple[str, str]] = []
        self.stopped: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.stop_service = threading.Event()
        self.job = job_of(tmp_path)

    def start(self, run_id: str, uri: str) -> None:
        self.started.append((run_id, uri))

    def state(self, run_id: str) -> StartState:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, StartState) else step() or StartState()

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def run(self, give_up: Any = lambda _: False) -> Any:
        return self.launcher.run(
            self.job,
            on_progress=self.messages.append,
            give_up=give_up,
            stop=self.stop_service,
        )

    def finish(self) -> None:
        bundle = Path(self.job.checkpoints) / "made"
        bundle.mkdir()
        (bundle / "manifest.json").write_text("{}")
        self.files.send_result(RESULT, bundle)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_run_is_handed_over_watched_and_its_bundle_collected(machine: Machine) -> None:
    fitting = {"stage": "fitting", "progress": 0.5}
    machine.steps = [
        StartState(waits="no GPU is free"),
        StarterUnavailableError("away for a moment"),
        lambda: machine.files.send_progress(fitting),
        StartState(),
        StartState(waits="evicted, and no GPU is free"),
        machine.finish,
    ]
    assert machine.run() == RESULT
    assert machine.started == [("v1", machine.files.uri)]
    assert (machine.job.output / "manifest.json").read_text() == "{}"
    assert machine.messages == [
        {"stage": WAITING, "detail": "no GPU is free", "progress": 0.0},
        fitting,
        {"stage": WAITING, "detail": "evicted, and no GPU is free", "progress": 0.5},
        fitting,  # once more with the result, since it has what the last start cost
    ]
    assert machine.launcher.goes_on("v1")  # until the service has put it in force
    machine.launcher.forget("v1")
    assert (machine.stopped, machine.exchange.runs()) == (["v1"], [])


def test_service_that_ends_leaves_the_run_to_the_next(machine: Machine) -> None:
    machine.steps = [machine.stop_service.set]
    with pytest.raises(PostponedError):
        machine.run()
    assert machine.stopped == []
    assert machine.launcher.goes_on("v1")
    machine.stop_service.clear()
    machine.steps = [machine.finish]
    assert machine.run() == RESULT
    machine.steps = [StartState()]
    assert machine.run() == RESULT
    assert len(machine.started) == 2  # with its result it is not started again


def test_run_that_is_given_up_is_ended_when_it_is_forgotten(machine: Machine) -> None:
    machine.steps = [StartState(waits="for its quota", held=True), StartState()]
    seen = []

    def give_up(held: bool) -> bool:
        seen.append(held)
        return not held

    with pytest.raises(GivenUpError):
        machine.run(give_up)
    assert seen == [True, False]
    machine.launcher.forget_all_but({"another"})
    assert machine.stopped == ["v1"]
    assert not machine.launcher.goes_on("v1")


def test_run_fails_for_its_own_reason_or_with_its_job(machine: Machine) -> None:
    machine.steps = [StartState(ended="the run's Job failed: it took too long")]
    with pytest.raises(RunFailedError, match="it took too long"):
        machine.run()
    machine.files.send_failure("too little data")
    machine.steps = [StartState(ended="the run's Job failed: podFailurePolicy")]
    with pytest.raises(RunFailedError, match="too little data"):
        machine.run()


def test_run_whose_job_somebody_deleted_was_killed_and_its_checkpoints_are_fetched(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "network.pt").write_text("epoch 3")

    def save() -> None:
        machine.files.send_checkpoint(tmp_path / "network.pt")
        (tmp_path / "network.pt").unlink()

    machine.steps = [save, StartState(killed="somebody has deleted the Job")]
    with pytest.raises(KilledError, match="deleted the Job"):
        machine.run()
    assert (machine.job.checkpoints / "network.pt").read_text() == "epoch 3"


def test_run_that_waits_for_its_exchange_or_starter_can_be_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def away(*_: str) -> None:
        tries.append(1)
        raise StarterUnavailableError("away")

    monkeypatch.setattr(machine, "start", away)
    with pytest.raises(GivenUpError):
        machine.run(lambda _: len(tries) == 3)
    assert machine.messages == []


def test_run_that_somebody_else_starts_waits_until_it_tells_its_progress(machine: Machine) -> None:
    fitting = {"stage": "fitting", "progress": 0.5}
    launcher = Launcher(machine.exchange, Starter(), look_s=0.001)

    def on_progress(message: dict[str, Any]) -> None:
        machine.messages.append(message)
        if message == fitting:
            machine.finish()
        else:
            machine.files.send_progress(fitting)

    never = threading.Event()
    assert (
        launcher.run(machine.job, on_progress=on_progress, give_up=lambda _: False, stop=never)
        == RESULT
    )
    assert machine.messages == [{"stage": WAITING, "detail": "", "progress": 0.0}, fitting]


def test_run_is_forgotten_later_where_its_starter_does_not_answer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.files.hand_over(machine.job, "")

    def away(_: str) -> None:
        raise StarterUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(machine, "stop", away)
        machine.launcher.forget("v1")
        assert machine.launcher.goes_on("v1")
    machine.launcher.forget_all_but(set())
    assert machine.exchange.runs() == []


def test_result_of_an_attempt_that_was_lost_is_read_by_no_one(machine: Machine) -> None:
    machine.finish()  # after the service had given it up
    machine.job = machine.job.model_copy(update={"attempt": "v1-2"})
    machine.steps = [
        lambda: machine.exchange.of("v1-2").send_failure("that of the second attempt"),
    ]
    with pytest.raises(RunFailedError, match="that of the second attempt"):
        machine.run()
    assert [name for name, _ in machine.started] == ["v1-2"]
