"""`slipstream experiments`, with monitoring's answers. What it shares is tested with placements."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from slipstream.contracts.experiments import Experiment, ExperimentDesign, Variant
from slipstream_cli.__main__ import cli
from tests.unit.cli.rest_answers import Answers, answers

__all__ = ["answers"]

CALMER = Experiment(
    name="calmer",
    revision=3,
    design=ExperimentDesign(
        placements=["home"], traffic=0.5, variants=[Variant(name="a"), Variant(name="b")]
    ),
    changed_at=1_700_000_000_000,
    changed_by="ada",
).model_dump()
PATH = "/v1/experiments/calmer"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["experiments", *arguments, "--url", "http://monitoring"])


def test_list_tells_of_placements_state_and_variants(answers: Answers) -> None:
    answers.by_request["GET /v1/experiments"] = {"items": [CALMER]}
    line = invoke("list").output.splitlines()[1]
    assert line.split()[:8] == ["calmer", "3", "home", "running", "split", "a,", "b", "50%"]


def test_what_is_shown_can_be_set_again_and_deleted(answers: Answers, tmp_path: Path) -> None:
    answers.by_request |= {
        f"GET {PATH}": CALMER,
        f"PUT {PATH}": (201, CALMER),
        f"DELETE {PATH}": CALMER | {"revision": 4, "deleted": True},
    }
    file = tmp_path / "calmer.json"
    file.write_text(invoke("show", "calmer").stdout)
    assert json.loads(file.read_text()) == CALMER["design"]
    assert invoke("set", str(file)).output.startswith("calmer has revision 3, by ada.")
    assert answers.heard[-1] == (f"PUT {PATH}", CALMER["design"])
    assert "calmer has revision 4, by ada: deleted" in invoke("delete", "calmer").output
