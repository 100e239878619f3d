"""Steps as a view of real records of runs."""

from typing import Any

import pytest

from services.training.records import Audit
from services.training.repository import Repository
from services.training.steps import read_steps, tags_of
from slipstream.contracts.steps import STEPS, RunSteps

USAGE = {"start": 1_000, "device": "cpu", "began_at": 1_000, "ended_at": 61_000}
SNAPSHOT = {"snapshot": {"lake_version": 7, "code_commit": "c0ffee"}}


def used(step: str, **more: Any) -> dict[str, Any]:
    return {**USAGE, "step": step, "processor_s": 120.0, **more}


def states(steps: RunSteps) -> list[str]:
    assert [step.name for step in steps.steps] == [kind.name for kind in STEPS]
    return [step.state for step in steps.steps]


def decide(repository: Repository, run_id: str, outcome: str) -> None:
    repository.record(Audit(run_id, run_id, "v0", outcome, "why", {}, decided_at=90_000))


@pytest.fixture
def steps(repository: Repository) -> Any:
    def read(run_id: str) -> RunSteps:
        run = repository.get(run_id)
        assert run is not None
        return read_steps(repository, run)

    return read


def test_a_run_goes_through_its_steps(repository: Repository, steps: Any) -> None:
    repository.add("r1", "request", "", "fast", key="nightly")
    assert set(states(steps("r1"))) == {"waiting"}
    repository.start("r1")
    assert states(steps("nightly"))[:2] == ["running", "waiting"]
    repository.note("r1", stage="fitting the challenger: epoch", outputs=SNAPSHOT)
    assert states(steps("r1")) == ["succeeded"] * 3 + ["running"] + ["waiting"] * 3
    assert steps("r1").steps[1].outputs == SNAPSHOT["snapshot"]
    assert steps("r1").steps[3].outputs == {}
    repository.note("r1", stage="publishing")
    assert states(steps("r1")) == ["succeeded"] * 5 + ["running", "waiting"]
    decide(repository, "r1", "promoted")
    assert states(steps("r1")) == ["succeeded"] * 6 + ["running"]
    repository.finish("r1", "succeeded", stage="")
    done = steps("r1")
    assert states(done) == ["succeeded"] * 7
    assert (done.key, done.steps[-1].outputs) == ("nightly", {"model_version": "r1"})
    assert done.steps[-2].began_at == 90_000


def test_a_refusal_is_the_gates_and_skips_what_follows(repository: Repository, steps: Any) -> None:
    repository.add("r1", "request", "", "fast")
    repository.start("r1")
    decide(repository, "r1", "refused")
    repository.finish("r1", "succeeded", stage="")
    assert states(steps("r1")) == ["succeeded"] * 5 + ["refused", "skipped"]
    assert steps("r1").steps[-2].outputs["decision"] == "refused"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_ends_in_the_step_that_it_had_reached(
    repository: Repository, steps: Any, state: str
) -> None:
    repository.add("r1", "request", "", "fast")
    repository.start("r1")
    repository.note("r1", stage="reading the lake", usage=[used("snapshot")])
    repository.finish("r1", state, error="no data" if state == "failed" else None)
    ended = steps("r1")
    assert states(ended) == ["succeeded", state] + ["skipped"] * 5
    assert ended.steps[1].outputs == {"error": ended.error or state}
    assert ended.steps[1].processor_s == 120.0


def test_every_start_counts_also_those_of_a_killed_attempt(
    repository: Repository, steps: Any
) -> None:
    repository.add("r1", "request", "", "fast")
    repository.start("r1")
    evicted = used("train", start=1), used("train", start=2, device="H100")
    repository.note("r1", stage="fitting the challenger", usage=list(evicted))
    repository.queue_again("r1", "killed")
    repository.start("r1")
    repository.note("r1", usage=[used("train", start=3, ended_at=70_000)])
    repository.note("r1", usage=[used("train", start=3, ended_at=80_000)])
    train = steps("r1").steps[3]
    assert (train.processor_s, train.device) == (360.0, "cpu")
    assert [each.start for each in train.usage] == [1, 2, 3]
    assert (train.began_at, train.ended_at) == (1_000, 80_000)


def test_tags_have_versions_and_every_step(repository: Repository, steps: Any) -> None:
    repository.add("r1", "request", "", "fast", key="nightly")
    repository.start("r1")
    repository.note("r1", stage="fitting the challenger", outputs=SNAPSHOT, usage=[used("train")])
    tags = tags_of(steps("r1"))
    assert tags["snapshot/lake_version"] == "7" and tags["key"] == "nightly"
    assert '"processor_s":120.0' in tags["step/train"]
    assert {name for name in tags if name.startswith("step/")} == {
        f"step/{kind.name}" for kind in STEPS
    }
