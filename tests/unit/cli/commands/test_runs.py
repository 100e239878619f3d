import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli
from slipstream_cli.commands import run_watch
from slipstream_cli.local.processes import INTERRUPTED
from tests.unit.cli.rest_answers import Answers, InTurn, asked, problem

invoke = partial(asked, "training", "runs")

RUN = {
    "run_id": "r1", "state": "succeeded", "trigger": "request", "reason": "first",
    "profile": "fast",
    "created_at": 1_700_000_000_000, "started_at": 1_700_000_001_000,
    "finished_at": 1_700_000_035_000,
    "model_version": "r1", "decision": "promoted",
    "decision_reason": "there is no champion", "metrics": {"ndcg@10": 0.25},
    "lake_version": 7, "progress": 1.0,
}  # fmt: skip
DECISION = {
    "outcome": "promoted",
    "reason": "there is no champion",
    "decided_at": 1,
    "numbers": {"popularity_queries": 120.0},
}


def test_list_shows_what_became_of_runs(answers: Answers) -> None:
    failed = RUN | {
        "run_id": "r0",
        "state": "failed",
        "decision": None,
        "error": "too little data: 3 events",
    }
    answers.by_request["GET /v1/runs"] = {"items": [RUN, failed], "next_cursor": None}
    lines = invoke("list").output.splitlines()
    assert lines[1].split()[:5] == ["r1", "succeeded", "fast", "request", "2023-11-14"]
    assert lines[1].endswith("34 s  promoted") and lines[2].endswith("too little data")
    assert json.loads(invoke("list", "--json").output)[0]["metrics"] == {"ndcg@10": 0.25}


def test_show_has_the_decision_and_what_it_rests_on(answers: Answers) -> None:
    answers.by_request |= {"GET /v1/runs/r1": RUN, "GET /v1/runs/r1/decisions": [DECISION]}
    shown = invoke("show", "r1").output
    assert "promoted: there is no champion" in shown and "popularity_queries  120" in shown
    assert json.loads(invoke("show", "r1", "--json").output)["decisions"] == [DECISION]


def test_show_of_a_running_run_says_how_far_it_is(answers: Answers) -> None:
    running = RUN | {
        "state": "running",
        "finished_at": None,
        "decision": None,
        "progress": 0.3,
        "stage": "fitting",
    }
    answers.by_request |= {"GET /v1/runs/r1": running, "GET /v1/runs/r1/decisions": []}
    assert "state      30%, fitting\n" in invoke("show", "r1").output


def test_report_is_written_where_it_is_asked_for(answers: Answers, tmp_path: Path) -> None:
    answers.by_request |= {
        "GET /v1/runs/r1/report": "page",
        "GET /v1/runs/r2/report": problem(404, "run r2 has no report"),
    }
    written = tmp_path / "r1.html"
    assert f"Wrote {written}." in invoke("report", "r1", "--output", str(written)).output
    assert written.read_text() == '"page"'
    assert (
        invoke("report", "r2", "--output", str(tmp_path / "r2.html")).output.strip()
        == "Error: run r2 has no report"
    )
    assert (
        "No such file"
        in invoke("report", "r1", "--output", str(tmp_path / "no" / "folder.html")).output
    )


def test_queued_run_says_behind_what_it_is_and_commands_name_the_folder(
    answers: Answers, tmp_path: Path
) -> None:
    queued = RUN | {"state": "queued", "started_at": None, "finished_at": None, "progress": 0}
    running = RUN | {"run_id": "r0", "state": "running", "progress": 0.4, "created_at": 1}
    answers.by_request |= {
        "GET /v1/runs": {"items": [queued, running]},
        "GET /v1/runs/r1": queued,
        "GET /v1/runs/r1/decisions": [],
    }
    assert "0%, waiting for its turn behind r0 (running, 40 %)" in invoke("show", "r1").output
    listed = invoke("list", "--data-dir", str(tmp_path)).output
    assert f"Next: slipstream runs show r1 --data-dir {tmp_path}" in listed


def test_start_sends_what_it_was_told_and_says_how_to_follow(answers: Answers) -> None:
    queued = RUN | {"state": "queued"}
    running = RUN | {"run_id": "r0", "state": "running", "progress": 0.4, "created_at": 1}
    later = queued | {"run_id": "r2", "created_at": 1_700_000_000_001}
    answers.by_request["POST /v1/runs"] = (202, queued)
    answers.by_request["GET /v1/runs"] = {"items": [later, queued, running], "next_cursor": None}
    shown = invoke("start", "--profile", "best", "--reason", "why").output
    assert shown.splitlines() == [
        "r1  queued behind r0 (running, 40 %)",
        "Next: slipstream runs follow r1",
    ]
    there = invoke("start", "--data-dir", "elsewhere").output
    assert there.endswith("Next: slipstream runs follow r1 --data-dir elsewhere\n")
    assert answers.heard[0] == (
        "POST /v1/runs",
        {"trigger": "request", "reason": "why", "profile": "best"},
    )
    invoke("start", "--key", "nightly")
    sent = [body for request, body in answers.heard if request == "POST /v1/runs"]
    assert sent[-1] == {"trigger": "request", "reason": "", "profile": "fast", "key": "nightly"}


@pytest.mark.parametrize(("state", "status"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_start_and_follow_ends_as_the_run_does(answers: Answers, state: str, status: int) -> None:
    ended = RUN | {"state": state, "error": "out of memory" if state == "failed" else None}
    answers.by_request |= {
        "POST /v1/runs": (202, RUN | {"state": "queued"}),
        "GET /v1/runs/r1": ended,
    }
    ran = CliRunner().invoke(cli, ["runs", "start", "--follow", "--url", "http://training"])
    assert ran.exit_code == status
    assert f"100%  {state}" in ran.stderr and state in ran.stdout
    assert (
        json.loads(
            CliRunner().invoke(cli, ["runs", "follow", "r1", "--json", "--url", "http://t"]).stdout
        )["state"]
        == state
    )


def test_follow_without_an_id_takes_the_newest(answers: Answers) -> None:
    answers.by_request |= {"GET /v1/runs": {"items": [RUN]}, "GET /v1/runs/r1": RUN}
    assert "slipstream models show r1" in invoke("follow").output
    answers.by_request["GET /v1/runs"] = {"items": []}
    nothing = invoke("follow")
    assert nothing.exit_code == 1 and "slipstream runs start" in nothing.output


def test_ctrl_c_stops_the_following_and_says_so(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_watch, "follow", interrupted)
    stopped = invoke("follow", "r1")
    assert stopped.exit_code == INTERRUPTED
    assert "the run goes on" in stopped.output and "slipstream runs cancel r1" in stopped.output
    assert answers.heard == []


def test_cancel_says_what_becomes_of_the_run(answers: Answers) -> None:
    states = [(202, RUN | {"state": state}) for state in ("running", "cancelled")]
    answers.by_request["POST /v1/runs/r1:cancel"] = InTurn(
        *states, problem(409, "run r1 is succeeded already")
    )
    assert invoke("cancel", "r1").output == "r1  is being stopped\n"
    assert invoke("cancel", "r1").output == "r1  cancelled\n"
    refused = invoke("cancel", "r1")
    assert (refused.exit_code, refused.output) == (1, "Error: run r1 is succeeded already\n")


def test_training_that_is_away_or_wants_a_token_gets_one_line_with_what_to_do(
    answers: Answers,
) -> None:
    away = invoke("list")
    assert away.exit_code == 1
    assert "training at http://training" in away.output and "slipstream up" in away.output
    answers.by_request["GET /v1/runs"] = problem(401, "no token")
    assert "SLIPSTREAM_HTTP__API_TOKEN" in invoke("list").output


def test_url_is_the_environments_where_no_stack_runs_on_the_folder(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    answers.by_request["GET /v1/runs"] = {"items": []}
    monkeypatch.setenv("SLIPSTREAM_PEERS__TRAINING_URL", "http://elsewhere:8003")
    CliRunner().invoke(cli, ["runs", "list", "--data-dir", str(tmp_path)])
    assert answers.urls == {"http://elsewhere:8003"}


def test_id_can_not_lead_to_another_route(answers: Answers) -> None:
    invoke("show", "../models")
    assert answers.heard[0][0] == "GET /v1/runs/..%2Fmodels"
