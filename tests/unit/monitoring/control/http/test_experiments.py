"""The REST routes of experiments, on real SQLite and without a broker."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine

from services.monitoring.app import create_app
from services.monitoring.control.http.experiments import DesignBody, ExperimentRoutes
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.settings import HttpSettings
from slipstream.contracts.experiments import ExperimentDesign, Variant
from tests.unit.monitoring.control.test_experiments_repository import table_with_placements

PATH = "/v1/experiments/calmer"
DESIGN = {"placements": ["home"], "variants": [{"name": "a"}, {"name": "b", "diversity": 0.5}]}


@pytest.fixture
def wakes() -> list[int]:
    return []


@pytest.fixture
def client(db: Engine, wakes: list[int]) -> TestClient:
    app = create_app(MonitoringSettings(http=HttpSettings(api_token=SecretStr("s3cret"))))
    app.state.experiments = ExperimentRoutes(
        "experiment", table_with_placements(db), lambda: wakes.append(1), lambda: 5
    )
    return TestClient(app, headers={"Authorization": "Bearer s3cret"})


def test_an_experiment_is_created_replaced_read_and_deleted(
    client: TestClient, wakes: list[int]
) -> None:
    made = client.put(PATH, json=DESIGN)
    assert (made.status_code, made.headers["ETag"]) == (201, '"1"')
    assert client.get(PATH).json() == made.json()
    stopped = client.put(
        PATH, json=made.json()["design"] | {"state": "stopped"}, headers={"If-Match": '"1"'}
    )
    assert (stopped.status_code, stopped.json()["revision"]) == (200, 2)
    late = client.put(PATH, json=DESIGN, headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert [it["name"] for it in client.get("/v1/experiments").json()["items"]] == ["calmer"]
    assert client.delete(PATH).json()["deleted"]
    gone = client.get(PATH)
    assert (gone.status_code, gone.json()["code"]) == (404, "no_experiment")
    revisions = client.get(f"{PATH}/revisions").json()["items"]
    assert [it["revision"] for it in revisions] == [3, 2, 1]
    assert len(wakes) == 3


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, "experiments_collide", "experiment calmer runs on one"),
        (
            {"placements": ["cart"], "variants": [{"name": "a"}, {"name": "b", "placement": "x"}]},
            "unknown_placement",
            "there is no placement x (there are cart, home)",
        ),
    ],
)
def test_what_can_not_run_beside_what_is_there_is_a_conflict(
    client: TestClient, changes: dict[str, Any], code: str, words: str
) -> None:
    client.put(PATH, json=DESIGN)
    refused = client.put("/v1/experiments/other", json=DESIGN | changes)
    assert (refused.status_code, refused.json()["code"]) == (409, code)
    assert words in refused.json()["detail"]


def test_a_wrong_design_is_refused_with_its_field(client: TestClient) -> None:
    refused = client.put(PATH, json=DESIGN | {"trafic": 1})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.trafic"


def test_results_are_those_of_an_experiment_that_is_there(client: TestClient) -> None:
    client.put(PATH, json=DESIGN)
    results = client.get(f"{PATH}/results").json()
    assert (results["control"], results["from"]) == ("a", None)
    assert [it["variant"] for it in results["variants"]] == ["a", "b", "holdout"]
    assert (results["verdicts"][0]["verdict"], results["guard"]) == ("go_on", None)
    missing = client.get("/v1/experiments/other/results")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_experiment")


TWO = [{"name": "as-now"}, {"name": "varied", "diversity": 0.5}]
NEW = {"name": "new", "model": "canary"}


def design(**more: Any) -> dict[str, Any]:
    return {"placements": ["home"], "variants": TWO, **more}


def test_a_design_becomes_the_contracts() -> None:
    more = {"traffic": 0.5, "guardrails": [{"metric": "empty", "worse": 0.01}]}
    taken = DesignBody.model_validate(design(**more)).design()
    assert taken == ExperimentDesign.model_validate(design(**more))
    assert type(taken.variants[0]) is Variant


def test_what_was_shown_can_be_put_again() -> None:
    for kind in ("split", "canary"):
        stopped = design(kind=kind, variants=[TWO[0], NEW], state="stopped", stopped_because="slow")
        kept = DesignBody.model_validate(stopped).design()
        assert (kept.stopped_because, kept.variants[1].model) == ("slow", "canary")
        again = DesignBody.model_validate(kept.model_dump() | {"state": "running"}).design()
        assert again == kept.model_copy(update={"state": "running", "stopped_because": ""})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variants": TWO[:1]}, "at least 2"),
        ({"variants": [{"name": f"v{n}"} for n in range(11)]}, "at most 10"),
        ({"variants": [TWO[0], TWO[0]]}, "two variants have the same name"),
        ({"variants": [TWO[0], {"name": "holdout"}]}, "holdout is reserved"),
        ({"variants": [TWO[0], {"name": "b", "weight": 0}]}, "greater than 0"),
        ({"variants": [TWO[0], {"name": "b", "weight": float("nan")}]}, "finite"),
        ({"variants": [TWO[0], {"name": "b", "divers": 1}]}, "Extra inputs"),
        ({"kind": "bandit"}, "'split', 'shadow' or 'canary'"),
        ({"placements": []}, "at least 1"),
        ({"placements": ["home", "home"]}, "named twice"),
        ({"placements": ["a b"]}, "pattern"),
        ({"salt": "a\0b"}, "pattern"),
        ({"traffic": 1.5}, "less than or equal to 1"),
        ({"starts_at": 5, "ends_at": 5}, "ends before it starts"),
        ({"trafic": 1}, "Extra inputs"),
        ({"kind": "shadow", "variants": [*TWO, {"name": "c"}]}, "shadow takes exactly two"),
        ({"kind": "canary"}, "the second a model"),
        ({"kind": "canary", "variants": [NEW, {"name": "b", "model": "9"}]}, "has the champion"),
        ({"variants": [TWO[0], {"name": "b", "model": "champion"}]}, "without a model has the"),
        ({"variants": [TWO[0], {"name": "b", "model": "a/b"}]}, "pattern"),
        ({"variants": [TWO[0], NEW], "guard": {"slower": 2}}, "only a canary has a guard"),
        ({"kind": "canary", "variants": [TWO[0], NEW], "guard": {"slow": 2}}, "Extra inputs"),
        ({"metric": "click_trough"}, "did you mean click_through"),
        ({"metric": "latency"}, "no metric 'latency' for this"),
        ({"guardrails": [{"metric": "latenzy"}]}, "did you mean latency"),
        ({"guardrails": [{"metric": "empty"}] * 2}, "two guardrails have the same metric"),
        ({"guardrails": [{"metric": "click_through"}]}, "it needs no guardrail"),
        ({"guardrails": [{"metric": "empty", "worse": -1}]}, "greater than or equal to 0"),
        ({"least_effect": 0}, "greater than 0"),
    ],
)
def test_a_fault_is_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DesignBody.model_validate(design(**changes))


def test_the_pages_examples_are_taken() -> None:
    page = (Path(__file__).parents[5] / "docs" / "experiments.md").read_text("utf-8")
    examples = [part.partition("```")[0] for part in page.split("```json\n")[1:]]
    kinds = [DesignBody.model_validate_json(example).design().kind for example in examples]
    assert kinds == ["split", "split", "shadow", "canary", "split"]
