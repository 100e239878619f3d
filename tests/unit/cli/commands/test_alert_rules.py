"""`slipstream alert-rules`, with monitoring's answers. What it shares is tested with placements."""

import json
from functools import partial
from pathlib import Path

from services.monitoring.control.named_records_repository import AlertRule
from services.monitoring.threshold_rules import AlertDefinition
from tests.unit.cli.rest_answers import Answers, asked, problem

invoke = partial(asked, "monitoring", "alert-rules")

CLICKS = AlertRule(
    name="clicks",
    revision=3,
    definition=AlertDefinition(
        metric="placement_click_through", of="home", comparison="below", threshold=0.03
    ),
    changed_at=1_700_000_000_000,
    changed_by="ada",
).model_dump(mode="json")
PATH = "/v1/alert-rules/clicks"


def test_list_tells_of_metric_and_threshold(answers: Answers) -> None:
    answers.by_request["GET /v1/alert-rules"] = {"items": [CLICKS]}
    line = invoke("list").output.splitlines()[1]
    assert line.split()[:7] == [
        *("clicks", "3", "placement_click_through", "of", "home", "below", "0.03"),
    ]


def test_what_is_shown_can_be_set_again_and_deleted(answers: Answers, tmp_path: Path) -> None:
    answers.by_request |= {
        f"GET {PATH}": CLICKS,
        f"PUT {PATH}": (201, CLICKS),
        f"DELETE {PATH}": CLICKS | {"revision": 4, "deleted": True},
    }
    file = tmp_path / "clicks.json"
    file.write_text(invoke("show", "clicks").stdout)
    assert json.loads(file.read_text()) == CLICKS["definition"]
    counts = "It counts from the next round of checks."
    assert invoke("set", str(file)).output == f"clicks has revision 3, by ada. {counts}\n"
    assert answers.heard[-1] == (f"PUT {PATH}", CLICKS["definition"])
    assert invoke("delete", "clicks").output.endswith(f": deleted. {counts}\n")


def test_a_wrong_file_is_refused_with_its_place(answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "clicks.json"
    file.write_text("{}")
    words = "body.metric: there is no metric 'click': did you mean click_through?"
    answers.by_request[f"PUT {PATH}"] = problem(422, words)
    refused = invoke("set", str(file))
    assert (refused.exit_code, refused.output) == (1, f"Error: {words}\n")


def test_metrics_are_shown_with_their_values(answers: Answers) -> None:
    readings = [{"of": "4", "value": 0.25, "low": 0.2, "high": 0.3, "samples": 9}]
    answers.by_request["GET /v1/alert-metrics"] = {
        "checked_at": 1,
        "items": [
            {"metric": "click_through", "unit": "share", "readings": readings},
            {"metric": "features_lag", "unit": "records", "readings": []},
        ],
    }
    lines = invoke("metrics").output.splitlines()
    assert lines[1].split() == ["click_through", "4", "0.25", "share"]
    assert lines[2].split() == ["features_lag", "unknown", "records"]
    assert json.loads(invoke("metrics", "--json").output)["checked_at"] == 1
