"""`slipstream experiments`, with monitoring's answers. What it shares is tested with placements."""

import json
from functools import partial
from pathlib import Path

from services.monitoring.control.guards import Judgement, Latency, Makers
from services.monitoring.control.results import (
    EarlierDesign,
    Estimate,
    ExperimentResults,
    MetricResult,
    ShareCheck,
    VariantResult,
    VariantVerdict,
    shadow_result,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign, Variant
from tests.unit.cli.rest_answers import Answers, asked

invoke = partial(asked, "monitoring", "experiments")

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


def test_list_tells_of_placements_state_and_variants(answers: Answers) -> None:
    answers.by_request["GET /v1/experiments"] = {"items": [CALMER]}
    line = invoke("list").output.splitlines()[1]
    expected = ["calmer", "3", "home", "running", "split", "click_through", "a,", "b", "50%"]
    assert line.split()[:9] == expected


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


def test_results_tell_of_verdicts_metrics_models_and_the_shadow(answers: Answers) -> None:
    metrics = {
        "click_through": MetricResult(
            hits=9,
            value=Estimate(value=0.25, low=0.2, high=0.3),
            relative=Estimate(value=0.1, low=-0.05),
        ),
        "latency": MetricResult(hits=9, value=Estimate(value=4.25, low=4.0, high=4.5)),
    }
    latency = Latency(slates=2, mean=3.0, p99=4.0)
    results = ExperimentResults(
        experiment="calmer",
        revision=3,
        control="a",
        metric="click_through",
        least_effect=0.05,
        from_=1,
        until=2,
        variants=[
            VariantResult(
                variant=name,
                visitors=visitors,
                slates=4,
                metrics=metrics,
                models={"9": 1},
                substituted={"failed": 3},
                latency_ms=latency,
            )
            for name, visitors in (("a", 2), ("b", 1))
        ],
        verdicts=[
            VariantVerdict(variant="b", verdict="go_on", reason="it may be better", days_left=2.25),
            VariantVerdict(variant="c", verdict="stop", reason="it loses", days_left=2.25),
        ],
        shares=ShareCheck(
            expected={"a": 0.5, "b": 0.5},
            visitors={"a": 2, "b": 1},
            p_value=1.0,
            is_broken=False,
            in_two_variants=1,
            excluded=True,
        ),
        shadow=shadow_result("b", Makers({"9": 2}), [0.5], [True, False]),
        guard=Judgement(state="unjudged", reason="it lags"),
        earlier=[EarlierDesign(revision=1, from_=0, until=1, visitors=7)],
    ).model_dump(by_alias=True)
    answers.by_request[f"GET {PATH}/results"] = results
    lines = invoke("results", "calmer").output.splitlines()
    assert "25.0% (20.0% to 30.0%)" in lines[1] and "4.25 (4 to 4.5)" in lines[1]
    assert lines[2].split()[:2] == ["b", "1"] and "10.0% (-5.0% or more)" in lines[2]
    assert "9: 1" in lines[2] and "3.0, 4.0" in lines[2] and "failed: 3" in lines[2]
    verdict, stopped, two, guard, shadow, earlier = lines[4:]
    assert verdict == "b: go on, since it may be better; 2.2 days left"
    assert stopped == "c: stop, since it loses"
    assert two == "Visitors in two variants: 1, left out"
    assert guard == "Guard: unjudged, it lags"
    assert "50% alike" in shadow and "1 of 2 clicked" in shadow and "Not made: none" in shadow
    assert earlier == "Revision 1 assigned 7 visitors otherwise"
    assert json.loads(invoke("results", "calmer", "--json").output) == results
