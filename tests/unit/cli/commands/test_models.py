import json
from functools import partial

import pytest

from slipstream_cli.commands import models as models_command
from tests.unit.cli.rest_answers import Answers, InTurn, asked, problem

invoke = partial(asked, "training", "models")

OLD = {
    "version": "v1", "aliases": ["champion"], "run_id": "r1", "created_at": 1_700_000_000_000,
    "metrics": {"ndcg@10": 0.25},
    "lake_version": 7, "files": ["manifest.json"],
}  # fmt: skip
NEW = OLD | {"version": "v2", "aliases": ["challenger"], "run_id": "r2", "metrics": {}}
DECISION = {
    "outcome": "refused",
    "reason": "not surely better",
    "decided_at": 1_700_000_000_000,
    "numbers": {},
}


def test_list_shows_aliases_and_figures(answers: Answers) -> None:
    answers.by_request["GET /v1/models"] = {"items": [NEW, OLD], "next_cursor": None}
    lines = invoke("list").output.splitlines()
    assert lines[1].split() == ["v2", "challenger", "2023-11-14", "22:13:20", "UTC"]
    assert lines[2].split()[-1] == "0.2500"
    assert json.loads(invoke("list", "--json").output) == [NEW, OLD]


def test_show_takes_a_version_or_an_alias_and_has_the_decision(answers: Answers) -> None:
    answers.by_request |= {
        "GET /v1/models/v2": NEW, "GET /v1/aliases/challenger": NEW,
        "GET /v1/runs/r2/decisions": [DECISION],
        "GET /v1/aliases/champion": problem(404, "no model is champion yet"),
    }  # fmt: skip
    for name in ("v2", "challenger"):
        assert "refused: not surely better" in invoke("show", name).output
    assert json.loads(invoke("show", "v2", "--json").output) == {**NEW, "decisions": [DECISION]}
    missing = invoke("show", "champion")
    assert (missing.exit_code, missing.output) == (1, "Error: no model is champion yet\n")


def test_show_of_a_version_whose_run_is_forgotten_goes_without_decision(answers: Answers) -> None:
    answers.by_request |= {
        "GET /v1/models/v1": OLD,
        "GET /v1/runs/r1/decisions": problem(404, "there is no run r1"),
    }
    assert invoke("show", "v1").exit_code == 0


def test_promote_moves_the_alias_and_waits_for_serving(answers: Answers) -> None:
    answers.by_request |= {
        "GET /v1/aliases/challenger": NEW,
        "POST /v1/models/v2:promote": NEW | {"aliases": ["champion"]},
        "GET /v1/model": InTurn(problem(503, "no model yet"), {"version": "v1"}, {"version": "v2"}),
    }  # fmt: skip
    moved = invoke("promote", "challenger", "--reason", "trial", "--serving-url", "http://serving")
    assert moved.exit_code == 0, moved.output
    assert "v2  is the champion" in moved.stdout and "Serving answers with it" in moved.stderr
    assert ("POST /v1/models/v2:promote", {"reason": "trial"}) in answers.heard
    assert [asked for asked, _ in answers.heard].count("GET /v1/model") == 3


def test_rollback_without_a_known_serving_says_how_to_look(answers: Answers) -> None:
    answers.by_request["POST /v1/models:rollback"] = OLD
    back = invoke("rollback", "--json")
    assert json.loads(back.stdout) == OLD
    assert "within seconds" in back.stderr
    assert invoke("rollback", "--no-wait").output == "v1  is the champion\n"


def test_rollback_finds_serving_by_the_environment(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPSTREAM_PEERS__SERVING_URL", "http://serving:8004")
    answers.by_request |= {"POST /v1/models:rollback": OLD, "GET /v1/model": {"version": "v1"}}
    assert invoke("rollback").exit_code == 0
    assert answers.urls == {"http://training", "http://serving:8004"}


def test_rollback_that_serving_does_not_take_or_can_not_be_asked_of_fails(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_command, "SERVING_LIMIT_S", 0.05)
    answers.by_request |= {"POST /v1/models:rollback": OLD, "GET /v1/model": {"version": "v2"}}
    stuck = invoke("rollback", "--serving-url", "http://serving")
    assert stuck.exit_code == 1 and "serving still has v2" in stuck.output
    del answers.by_request["GET /v1/model"]
    away = invoke("rollback", "--serving-url", "http://serving")
    assert (
        away.exit_code == 1
        and "serving at http://serving" in away.output
        and "--serving-url" in away.output
    )


def test_rollback_without_an_earlier_champion_says_so(answers: Answers) -> None:
    answers.by_request["POST /v1/models:rollback"] = problem(
        409, "there is no earlier champion to go back to"
    )
    assert invoke("rollback").output == "Error: there is no earlier champion to go back to\n"


def test_canary_names_a_version_or_none(answers: Answers) -> None:
    answers.by_request |= {
        "GET /v1/aliases/challenger": NEW,
        "PUT /v1/aliases/canary": NEW | {"aliases": ["canary"]},
        "DELETE /v1/aliases/canary": NEW,
    }
    assert invoke("canary", "challenger", "--reason", "trial").output == "v2  is the canary\n"
    put = {"version": "v2", "reason": "trial"}
    assert ("PUT /v1/aliases/canary", put) in answers.heard
    assert invoke("canary", "--none").output == "v2  is no longer the canary\n"
    for wrong in ((), ("v2", "--none")):
        assert "name a version, or --none" in invoke("canary", *wrong).output
