"""`slipstream answers`, with serving's answers."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.rest_answers import Answers, asked, problem

invoke = partial(asked, "serving", "answers")

SHOW, WHAT_IF = "GET /v1/answers/r1", "POST /v1/answers/r1:what-if"
ITEM = {"item_id": "shoe", "score": 0.25}
REPLAY: dict[str, Any] = {
    "user_id": "ada",
    "timestamp": 1_700_000_000_000,
    "model": "7",
    "placements": {"home": 3},
    "experiment": "",
    "variant": "champion",
    "answered_by": "model",
    "history_length": 4,
    "recorded": [ITEM, ITEM | {"item_id": "hat"}],
    "rebuilt": [ITEM],
    "identical": False,
    "reasons": ["new items were still being compared"],
}
CHANGES = [
    ("shoe", 2, 1, 1),
    ("hat", 1, 2, -1),
    ("boot", None, 3, None),
    ("sock", 3, None, None),
    ("cap", 4, 4, 0),
]


def test_show_sets_the_record_beside_the_list_made_again(answers: Answers) -> None:
    answers.by_request[SHOW] = REPLAY
    lines = invoke("show", "r1").output.splitlines()
    assert "rules        home revision 3" in lines
    assert "identical    no" in lines
    assert lines[-3:] == [
        "1      shoe      0.25   shoe        0.25",
        "2      hat       0.25   -           -",
        "Perhaps because new items were still being compared.",
    ]
    assert json.loads(invoke("show", "r1", "--json").output) == REPLAY


def test_what_if_sends_the_changes_and_shows_where_items_went(
    answers: Answers, tmp_path: Path
) -> None:
    policy = tmp_path / "calm.json"
    policy.write_text('{"diversity": 0.5}')
    items = [
        {
            "item_id": item_id,
            "place_before": before,
            "place_after": after,
            "score_before": before and 0.5,
            "score_after": after and 0.25,
            "moved": moved,
        }
        for item_id, before, after, moved in CHANGES
    ]
    answers.by_request[WHAT_IF] = {
        "identical": True,
        "diff": {"items": items},
        "notes": ["the list of then is not recorded"],
    }
    options = ["--model", "8", "--policy", str(policy), "--without-rule", "a", "--filter", ""]
    shown = invoke("what-if", "r1", *options, "--boost", "2:price < 20", "--exploration", "0")
    assert answers.heard[-1][1] == {
        "model_version": "8",
        "policy": {"diversity": 0.5},
        "without_rules": ["a"],
        "filter": "",
        "boosts": [{"factor": 2.0, "filter": "price < 20"}],
        "exploration": 0.0,
    }
    lines = shown.output.splitlines()
    assert [line.split()[3] for line in lines[1:6]] == ["+1", "-1", "entered", "left", "="]
    assert lines[-1] == "Note: the list of then is not recorded."


def test_what_can_not_be_made_again_is_one_clear_line(answers: Answers, tmp_path: Path) -> None:
    answers.by_request[SHOW] = problem(409, "the slate has no circumstances")
    assert invoke("show", "r1").output == "Error: the slate has no circumstances\n"
    torn = tmp_path / "torn.json"
    torn.write_text("{")
    assert "is not JSON" in invoke("what-if", "r1", "--policy", str(torn)).output


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "say what is to be another one"),
        (("--boost", "price < 20"), "has no factor"),
    ],
)
def test_a_change_that_says_nothing_is_refused(options: tuple[str, ...], reason: str) -> None:
    refused = invoke("what-if", "r1", *options)
    assert refused.exit_code == 2
    assert reason in refused.output
