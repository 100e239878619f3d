"""`slipstream runs follow --until STEP`: outputs, waits and exit statuses."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from slipstream.contracts.steps import STEPS
from slipstream_cli.commands import run_steps
from tests.unit.cli.rest_answers import Answers, InTurn, asked, problem

invoke = partial(asked, "training", "runs")

PATH = "GET /v1/runs/nightly/steps"
FOLLOW = ("follow", "nightly", "--until")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_steps, "POLL_S", 0.001)


def steps(state: str = "running", **of: Any) -> dict[str, Any]:
    """The answer about a run; `of` has a step's state, or its state and outputs."""
    listed = []
    for kind in STEPS:
        given = of.get(kind.name, "waiting")
        step, outputs = given if isinstance(given, tuple) else (given, {})
        listed.append({"name": kind.name, "state": step, "outputs": outputs})
    told = {"run_id": "r1", "key": "nightly", "state": state, "steps": listed}
    return told | {name: of[name] for name in ("error",) if name in of}


REFUSED = steps(
    "succeeded",
    gate=("refused", {"decision": "refused", "decision_reason": "not better"}),
    promote="skipped",
)


def test_outputs_are_one_json_object_once_the_step_is_over(
    answers: Answers, tmp_path: Path
) -> None:
    done = steps(snapshot=("succeeded", {"lake_version": 7, "code_commit": "c0ffee"}))
    answers.by_request[PATH] = InTurn(steps(), steps(snapshot="running"), done)
    files = {name: tmp_path / "new" / name for name in ("lake_version", "code_commit")}
    told = [word for name, file in files.items() for word in ("--output", f"{name}={file}")]
    ran = invoke(*FOLLOW, "snapshot", *told)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {
        "run_id": "r1",
        "step": "snapshot",
        "state": "succeeded",
        "lake_version": 7,
        "code_commit": "c0ffee",
    }
    assert {name: file.read_text() for name, file in files.items()} == {
        "lake_version": "7",
        "code_commit": "c0ffee",
    }


def test_an_output_that_the_step_does_not_have_is_an_error(answers: Answers) -> None:
    answers.by_request[PATH] = steps(train="succeeded")
    ran = invoke(*FOLLOW, "train", "--output", "lake=/tmp/x")
    assert ran.exit_code == 1 and "one of run_id, step, state" in ran.stderr


def test_a_refusal_is_an_output_of_the_gate_and_the_end_of_later_steps(answers: Answers) -> None:
    answers.by_request[PATH] = REFUSED
    gate = invoke(*FOLLOW, "gate")
    assert (gate.exit_code, json.loads(gate.stdout)["decision"]) == (0, "refused")
    later = invoke(*FOLLOW, "promote")
    assert (later.exit_code, later.stdout) == (4, "")
    assert "the gate refused r1: not better" in later.stderr


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_that_failed_has_a_status_of_its_own(answers: Answers, state: str) -> None:
    answers.by_request[PATH] = steps(state, snapshot=state, train="skipped", error="no data")
    for step in ("snapshot", "train"):
        ran = invoke(*FOLLOW, step)
        assert ran.exit_code == 3 and f"r1 {state}: no data" in ran.stderr


def test_time_that_runs_out_has_a_status_of_its_own(answers: Answers) -> None:
    answers.by_request[PATH] = steps(train="running")
    ran = invoke(*FOLLOW, "train", "--timeout", "0.05")
    assert ran.exit_code == 5 and "train of r1 is running after 0.05 s" in ran.stderr
    del answers.by_request[PATH]  # nor does training answer
    assert invoke(*FOLLOW, "train", "--timeout", "0.05").exit_code == 5


def test_training_that_is_unavailable_is_waited_for_and_named(answers: Answers) -> None:
    down = [problem(503, "no instance acts"), problem(502, ""), problem(504, "")]
    answers.by_request[PATH] = InTurn(steps(), *down, steps(train="succeeded"))
    ran = invoke(*FOLLOW, "train")
    assert (ran.exit_code, json.loads(ran.stdout)["state"]) == (0, "succeeded")
    assert ran.stderr.count("training does not answer; waiting for it") == 1
    assert "training answers after" in ran.stderr


def test_patience_ends(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_steps, "PATIENCE_S", 0.05)
    ran = invoke(*FOLLOW, "train")
    assert ran.exit_code == 1 and "training at http://training" in ran.stderr


def test_an_unknown_key_is_told_at_once(answers: Answers) -> None:
    answers.by_request[PATH] = problem(404, "there is no run nightly")
    ran = invoke(*FOLLOW, "train")
    assert (ran.exit_code, ran.stderr) == (1, "Error: there is no run nightly\n")


def test_start_with_a_key_waits_for_training(answers: Answers) -> None:
    queued = {"run_id": "r1", "state": "queued", "trigger": "request", "created_at": 1}
    answers.by_request |= {
        "POST /v1/runs": InTurn(problem(503, "no instance acts"), (202, queued)),
        "GET /v1/runs": {"items": []},
    }
    ran = invoke("start", "--key", "nightly")
    assert ran.exit_code == 0 and ran.stdout.startswith("r1  queued")
    answers.by_request["POST /v1/runs"] = problem(409, "key nightly was used with other options")
    taken = invoke("start", "--key", "nightly")
    assert taken.exit_code == 1 and "other options" in taken.stderr


PROMOTED = steps("succeeded", promote=("succeeded", {"model_version": "r1"}))


def promoted(answers: Answers, serving: Any, champion: str = "r1", state: str = "away") -> Result:
    """The step `promote`, where serving answers so, and monitoring shows it in this state."""
    answers.by_request |= {
        PATH: PROMOTED,
        "GET /v1/model": serving,
        "GET /v1/aliases/champion": {"version": champion},
        "GET /v1/services": {"items": [{"name": "serving", "state": state}]},
    }
    return invoke(*FOLLOW, "promote", "--serving-url", "http://serving")


def process(version: str, loaded_at: int = 1) -> dict[str, Any]:
    return {"version": version, "loaded_at": loaded_at}


def test_a_promotion_is_over_once_each_process_of_serving_answers_with_it(
    answers: Answers,
) -> None:
    late = [process("r1", 1), process("r0", 2), problem(404, "no model"), problem(503, "busy")]
    new = [process("r1", 1 + number % 3) for number in range(100)]
    ran = promoted(answers, InTurn(*late, *new))
    assert (ran.exit_code, ran.stderr) == (0, "")
    told = json.loads(ran.stdout)
    assert (told["model_version"], told["serving"], told["processes"]) == ("r1", "answers", 3)
    asked = [path for path, _ in answers.heard if path == "GET /v1/model"]
    assert len(asked) == len(late) + 30


@pytest.mark.parametrize(
    ("serving", "champion", "state", "seen"),
    [(None, "r1", "asleep", "asleep"), (process("r2"), "r2", "ready", "replaced")],
)
def test_a_promotion_does_not_wait_for_serving_that_sleeps_or_for_a_version_that_was_replaced(
    answers: Answers, serving: Any, champion: str, state: str, seen: str
) -> None:
    ran = promoted(answers, serving, champion, state)
    assert (ran.exit_code, json.loads(ran.stdout)["serving"]) == (0, seen)


@pytest.mark.parametrize(("serving", "seen"), [(process("r0"), "still has r0"), (None, "refused")])
def test_a_promotion_that_serving_does_not_take_has_a_status_to_repeat(
    answers: Answers, serving: Any, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_steps, "SERVED_S", 0.05)
    ran = promoted(answers, serving)
    assert (ran.exit_code, ran.stdout) == (5, "") and seen in ran.stderr


def test_serving_that_refuses_to_answer_is_an_error_and_an_unknown_one_is_not_asked(
    answers: Answers,
) -> None:
    ran = promoted(answers, problem(403, "needs the scope read"))
    assert ran.exit_code == 1 and "needs the scope read" in ran.stderr
    ran = promoted(answers, problem(401, "no key"))
    assert ran.exit_code == 1 and "http://serving wants a token" in ran.stderr
    unasked = invoke(*FOLLOW, "promote")
    assert "serving" not in json.loads(unasked.stdout)


def watch_scene(answers: Answers, *alerts: dict[str, Any], champion: Any = "r1") -> None:
    answers.by_request |= {
        PATH: PROMOTED,
        "GET /v1/runs/r1": {"finished_at": 1_000},
        "GET /v1/aliases/champion": {"version": champion},
        "GET /v1/alerts": {"items": list(alerts)},
        "GET /v1/reports/quality": {"by_model": [{"model_version": "r1", "slates": 40}]},
        "POST /v1/models:rollback": {"version": "r0"},
    }


def watch(*words: str) -> Result:
    return invoke("watch", "nightly", "--monitoring-url", "http://monitoring", *words)


DROPPED = {"rule": "click_through_dropped", "opened_at": 2_000, "summary": "fewer clicks"}


def test_a_watch_without_an_alert_ends_with_the_versions_quality(answers: Answers) -> None:
    earlier = DROPPED | {"opened_at": 999}
    other = DROPPED | {"rule": "service_down"}
    watch_scene(answers, earlier, other)
    ran = watch("--minutes", "0")
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert (told["state"], told["champion"], told["quality"]["slates"]) == ("succeeded", "r1", 40)


def test_an_alert_about_the_model_ends_a_watch_and_rolls_back_where_asked(answers: Answers) -> None:
    watch_scene(answers, DROPPED)
    ran = watch()
    assert ran.exit_code == 6 and "r1: fewer clicks; r1 is the champion, go back" in ran.stderr
    assert "POST /v1/models:rollback" not in dict(answers.heard)
    ran = watch("--roll-back")
    assert ran.exit_code == 6 and ran.stderr.endswith("fewer clicks; r0 is the champion\n")
    assert dict(answers.heard)["POST /v1/models:rollback"] == {"reason": "nightly: fewer clicks"}
    answers.heard.clear()
    watch_scene(answers, DROPPED, champion="r0")  # as the repeat of that step finds it
    again = watch("--roll-back")
    assert again.exit_code == 6 and "POST /v1/models:rollback" not in dict(answers.heard)
    watch_scene(answers, champion="r2")
    assert json.loads(watch().stdout)["state"] == "replaced"


def test_there_is_nothing_to_watch_where_the_gate_refused(answers: Answers) -> None:
    answers.by_request[PATH] = REFUSED
    assert watch().exit_code == 4
