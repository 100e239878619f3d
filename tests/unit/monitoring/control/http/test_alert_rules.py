"""The REST routes of alert rules, on real SQLite and without a broker."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine

from services.monitoring.app import create_app
from services.monitoring.control.http.alert_rules import AlertRuleRoutes, DefinitionBody
from services.monitoring.control.named_records_repository import AlertRuleTable
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.settings import HttpSettings

LAG = {"metric": "features_lag", "comparison": "above", "threshold": 5}
CLICKS = {"metric": "click_through", "comparison": "below", "threshold": 0.02}


@pytest.fixture
def client(db: Engine) -> TestClient:
    app = create_app(MonitoringSettings(http=HttpSettings(api_token=SecretStr("s3cret"))))
    app.state.alert_rules = AlertRuleRoutes(
        "alert rule", AlertRuleTable(db), lambda: None, lambda: 5
    )
    return TestClient(app, headers={"Authorization": "Bearer s3cret"})


def put(client: TestClient, body: Any, name: str = "lag", **headers: str) -> tuple[int, Any]:
    answer = client.put(f"/v1/alert-rules/{name}", json=body, headers=headers)
    return answer.status_code, answer.json()


def test_a_rule_is_created_replaced_read_and_deleted(client: TestClient) -> None:
    status, made = put(client, LAG)
    assert (status, made["revision"], made["changed_at"], made["changed_by"]) == (
        201, 1, 5, "api-token",
    )  # fmt: skip
    assert made["definition"] | LAG == made["definition"]
    assert made["definition"]["severity"] == "warning"
    read = client.get("/v1/alert-rules/lag")
    assert (read.json(), read.headers["ETag"]) == (made, '"1"')
    assert put(client, made["definition"]) == (200, made)
    assert put(client, LAG | {"threshold": 6})[1]["revision"] == 2
    assert put(client, LAG, **{"If-Match": '"1"'})[0] == 412
    listed = client.get("/v1/alert-rules").json()
    assert [it["revision"] for it in listed["items"]] == [2]
    assert "data_fault" in listed["built_in"]
    assert client.delete("/v1/alert-rules/lag").json()["deleted"]
    gone = client.get("/v1/alert-rules/lag")
    assert (gone.status_code, gone.json()["code"]) == (404, "no_alert_rule")
    assert gone.json()["detail"] == "there is no alert rule lag"
    kept = client.get("/v1/alert-rules/lag/revisions").json()["items"]
    assert [it["revision"] for it in kept] == [3, 2, 1]


@pytest.mark.parametrize(
    ("change", "field", "code", "words"),
    [
        (
            {"metric": "click_trough"},
            "body.metric",
            "invalid_metric",
            "did you mean click_through?",
        ),
        ({"severity": "critcal"}, "body.severity", "invalid_severity", "did you mean critical?"),
        ({"action": "retrian"}, "body.action", "invalid_action", "did you mean retrain?"),
        ({"treshold": 1}, "body.treshold", "unknown_name", "did you mean threshold?"),
        ({"comparison": "over"}, "body.comparison", "literal_error", "'above' or 'below'"),
        ({"threshold": "a"}, "body.threshold", "float_parsing", "number"),
        ({"metric": 3}, "body.metric", "literal_error", "'click_through'"),
        ({"for_minutes": -1}, "body.for_minutes", "greater_than_equal", "0"),
        ({"of": "x"}, "body", "invalid_of", "has one reading"),
        ({"window_minutes": 60}, "body", "invalid_window_minutes", "a time of its own"),
        ({"least_samples": 5}, "body", "invalid_least_samples", "no samples"),
        ({"action": "retrain"}, "body", "invalid_action", "does not change features_lag"),
        (
            {"metric": "readiness_latency", "of": "servng"},
            *("body", "invalid_of", "did you mean serving?"),
        ),
        (
            {"metric": "click_through", "threshold": 5},
            *("body.threshold", "invalid_threshold", "from 0 to 1"),
        ),
        (
            {"metric": "click_through", "threshold": 0.1, "window_minutes": 4},
            *("body.window_minutes", "greater_than_equal", "5"),
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_code_and_place(
    client: TestClient, change: dict[str, Any], field: str, code: str, words: str
) -> None:
    status, problem = put(client, LAG | change)
    assert (status, problem["code"]) == (422, "invalid_request")
    (error,) = problem["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert words in error["reason"]
    assert client.get("/v1/alert-rules").json()["items"] == []


def test_a_rule_may_choose_window_samples_and_action_where_the_metric_takes_them(
    client: TestClient,
) -> None:
    more = {"of": "4", "window_minutes": 30, "least_samples": 50, "action": "hold"}
    status, made = put(client, CLICKS | more)
    assert (status, made["definition"] | more) == (201, made["definition"])


def test_a_built_in_rule_is_not_replaced(client: TestClient) -> None:
    status, problem = put(client, LAG, "data_fault")
    assert (status, problem["code"]) == (409, "built_in_rule")


def test_one_rule_too_many_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AlertRuleTable, "most", 0)
    status, problem = put(client, LAG)
    assert (status, problem["code"]) == (409, "too_many_alert_rules")


@pytest.mark.parametrize("body", [b'{"runbook": "\\ud800"}', b'{"threshold": NaN}', b"[]", b""])
def test_strange_bodies_are_refused(client: TestClient, body: bytes) -> None:
    sent = {"Content-Type": "application/json"}
    answer = client.put("/v1/alert-rules/lag", content=body, headers=sent)
    assert answer.status_code == 422, answer.text


def test_the_pages_example_is_taken() -> None:
    page = (Path(__file__).parents[5] / "docs" / "alerts.md").read_text("utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    assert DefinitionBody.model_validate_json(example).definition().of == "home"
