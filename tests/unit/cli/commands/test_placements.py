"""`slipstream placements`, with monitoring's answers."""

import json
from functools import partial
from pathlib import Path

import pytest

from slipstream.contracts.placements import Placement, PlacementPolicy
from tests.unit.cli.rest_answers import Answers, InTurn, asked, problem

invoke = partial(asked, "monitoring", "placements")

HOME = Placement(
    name="home",
    revision=3,
    policy=PlacementPolicy(seen="hide"),
    changed_at=1_700_000_000_000,
    changed_by="ada",
).model_dump()
PATH = "/v1/placements/home"


def test_list_asks_for_every_page(answers: Answers) -> None:
    pages = {"items": [HOME], "next_cursor": "home"}, {"items": [HOME | {"name": "search"}]}
    answers.by_request["GET /v1/placements"] = InTurn(*pages, *pages)
    lines = invoke("list").output.splitlines()
    assert lines[1].split()[:3] == ["home", "3", "0"] and lines[2].startswith("search")
    assert [it["name"] for it in json.loads(invoke("list", "--json").output)] == ["home", "search"]


def test_what_is_shown_can_be_set_again(answers: Answers, tmp_path: Path) -> None:
    answers.by_request[f"GET {PATH}"] = HOME
    shown = invoke("show", "home")
    assert "home has revision 3, by ada" in shown.stderr
    file = tmp_path / "home.json"
    file.write_text(shown.stdout)
    put = HOME | {"matches": {"items": 578, "rules": []}}
    answers.by_request[f"PUT {PATH}"] = (201, put)
    assert invoke("set", str(file)).output.startswith("home has revision 3, by ada.")
    assert answers.heard[-1] == (f"PUT {PATH}", HOME["policy"])
    assert json.loads(invoke("set", str(file), "--json").output) == put
    assert invoke("set", str(file), "--name", "a/b").exit_code == 1
    assert answers.heard[-1][0] == "PUT /v1/placements/a%2Fb"


def test_set_says_what_each_rule_matches(answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "home.json"
    file.write_text("{}")
    found = [
        {"rule": "hide", "matches": 0, "remark": "no item has an attribute brnad"},
        {"rule": "own", "matches": None, "remark": ""},
    ]
    answers.by_request[f"PUT {PATH}"] = HOME | {"matches": {"items": 1_578, "rules": found}}
    assert invoke("set", str(file)).output.splitlines()[1:] == [
        "  hide: matches 0 of 1,578 items; no item has an attribute brnad",
        "  own: what it matches depends on the visitor",
    ]
    policy = HOME["policy"] | {"rules": [{"name": "hide"}]}
    answers.by_request[f"PUT {PATH}"] = HOME | {"policy": policy, "matches": None}
    (line,) = invoke("set", str(file)).output.splitlines()[1:]
    assert line == "Serving did not answer, so it is not known what the rules match."


def test_an_older_revision_is_shown_and_a_missing_one_is_one_clear_line(answers: Answers) -> None:
    answers.by_request[f"GET {PATH}/revisions"] = {"items": [HOME]}
    assert json.loads(invoke("show", "home", "--revision", "3", "--json").output) == HOME
    missing = invoke("show", "home", "--revision", "4")
    assert (missing.exit_code, missing.output) == (1, "Error: home has no revision 4\n")


def test_a_change_that_another_was_faster_with_is_one_clear_line(
    answers: Answers, tmp_path: Path
) -> None:
    file = tmp_path / "home.json"
    file.write_text("{}")
    late = problem(412, "home has revision 4: read it again")
    answers.by_request |= {f"PUT {PATH}": late, f"DELETE {PATH}": late}
    for command in (("set", str(file)), ("delete", "home")):
        refused = invoke(*command, "--if-revision", "3")
        assert refused.output == "Error: home has revision 4: read it again\n"


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_file_that_is_no_json_is_one_clear_line(
    answers: Answers, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "home.json"
    file.write_bytes(content)
    refused = invoke("set", str(file))
    assert refused.exit_code == 1 and "home.json is not JSON" in refused.output
    assert answers.heard == []


def test_a_placement_is_deleted(answers: Answers) -> None:
    answers.by_request[f"DELETE {PATH}"] = HOME | {"revision": 4, "deleted": True}
    for force, query in (([], ""), (["--force"], "force=true")):
        assert "home has revision 4, by ada: deleted" in invoke("delete", "home", *force).output
        assert answers.queries[-1] == query
