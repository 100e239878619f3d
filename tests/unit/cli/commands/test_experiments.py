"""`slipstream experiments`, with monitoring's answers. What it shares is tested with placements."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from services.monitoring.control.guards import Makers
from services.monitoring.control.results import (
    ExperimentResults,
    HitSums,
    ShadowPair,
    VariantSums,
    interleaved_result,
    shadow_result,
    variant_results,
)
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


def test_a_canary_that_was_returned_says_why(answers: Answers) -> None:
    variants = [Variant(name="a"), Variant(name="new", model="canary")]
    design = ExperimentDesign(
        placements=["home"],
        kind="canary",
        variants=variants,
        state="stopped",
        stopped_because="it failed for 9",
    )
    returned = CALMER | {"design": design.model_dump()}
    answers.by_request["GET /v1/experiments"] = {"items": [returned]}
    line = invoke("list").output.splitlines()[1]
    assert "new (canary)" in line and "it failed for 9" in line


def test_results_tell_of_models_substitutes_and_the_shadow(answers: Answers) -> None:
    results = ExperimentResults(
        experiment="calmer",
        control="a",
        from_=1,
        variants=variant_results(
            ["a", "b"],
            {"a": VariantSums(2, 4, 8, HitSums(1, 1, 2)), "b": VariantSums(1, 1, 1)},
            {"b": Makers({"9": 1}, {"failed": 3}, [2.0, 4.0])},
        ),
        interleaved=interleaved_result("a", []),
        shadow=shadow_result(
            "b", Makers({"9": 2}), [ShadowPair(frozenset("ab"), frozenset("b"))], [True, False]
        ),
    ).model_dump(by_alias=True)
    answers.by_request[f"GET {PATH}/results"] = results
    lines = invoke("results", "calmer").output.splitlines()
    assert lines[1].split()[:4] == ["a", "2", "4", "25.0%"]
    assert lines[2].split()[:2] == ["b", "1"]
    assert "9: 1" in lines[2] and "3.0, 4.0" in lines[2] and "failed: 3" in lines[2]
    shadow = lines[-1]
    assert "50% alike" in shadow and "1 of 2 clicked" in shadow and "Not made: none" in shadow
    assert json.loads(invoke("results", "calmer", "--json").output) == results
