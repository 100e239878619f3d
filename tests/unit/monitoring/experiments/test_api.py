"""The REST routes of experiments, on real SQLite and without a broker."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.monitoring.app import create_app
from services.monitoring.experiments.api import ExperimentRoutes
from services.monitoring.experiments.repository import ExperimentTable
from services.monitoring.migrations import MIGRATIONS
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.settings import DatabaseSettings, HttpSettings
from slipstream.stores import metadata
from slipstream.stores.migrations import migrate

PATH = "/v1/experiments/calmer"
DESIGN = {"placements": ["home"], "variants": [{"name": "a"}, {"name": "b", "diversity": 0.5}]}


@pytest.fixture
def wakes() -> list[int]:
    return []


@pytest.fixture
def client(database_settings: DatabaseSettings, wakes: list[int]) -> Iterator[TestClient]:
    engine = metadata.engine(database_settings)
    migrate(engine, MIGRATIONS)
    app = create_app(MonitoringSettings(http=HttpSettings(api_token=SecretStr("s3cret"))))
    app.state.experiments = ExperimentRoutes(
        "experiment", ExperimentTable(engine), lambda: wakes.append(1), lambda: 5
    )
    yield TestClient(app, headers={"Authorization": "Bearer s3cret"})
    engine.dispose()


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
            "placement x, which is not there",
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
    assert (results["control"], results["from"], results["interleaved"]) == ("a", None, None)
    assert [it["variant"] for it in results["variants"]] == ["a", "b", "holdout"]
    missing = client.get("/v1/experiments/other/results")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_experiment")
