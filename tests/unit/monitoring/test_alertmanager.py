"""Alerts as they are posted to Alertmanagers."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
from structlog.testing import capture_logs

from services.monitoring.alert_rules import Alert
from services.monitoring.alertmanager import LASTS_MS, AlertmanagerClient
from slipstream.contracts.events import Severity
from tests.unit.monitoring.builders import T0

OPEN = Alert(
    "a-1",
    "feature_drift",
    Severity.CRITICAL,
    "views has drifted",
    {"psi": 0.4},
    "retrain",
    T0,
    T0 + 15_000,
    runbook="docs/runbook/feature_drift.md",
)
NOW = T0 + 30_000


def client(
    answer: Callable[[httpx.Request], httpx.Response], *urls: str, lasts_ms: int = 60_000
) -> AlertmanagerClient:
    transport = httpx.MockTransport(answer)
    return AlertmanagerClient(
        urls, "shop", "http://m/runbook", lasts_ms=lasts_ms, timeout_s=1, transport=transport
    )


def posted(*alerts: Alert, **named: Any) -> list[dict[str, Any]]:
    """What an Alertmanager gets."""
    got: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(200)

    client(take, "http://one:9093/", **named).post(alerts, NOW)
    assert [str(request.url) for request in got] == ["http://one:9093/api/v2/alerts"]
    bodies: list[dict[str, Any]] = orjson.loads(got[0].content)
    return bodies


def test_an_open_alert_lasts_until_after_the_next_rounds() -> None:
    (body,) = posted(OPEN)
    assert body["labels"] == {
        "alertname": "SlipstreamAlertOpen",
        "rule": "feature_drift",
        "severity": "critical",
        "service": "monitoring",
        "stack": "shop",
    }
    assert body["annotations"] == {
        "summary": "views has drifted",
        "evidence": '{"psi":0.4}',
        "runbook_url": "http://m/runbook/feature_drift.md",
    }
    assert (body["startsAt"], body["endsAt"]) == (at(T0), at(NOW + LASTS_MS))
    (body,) = posted(OPEN, lasts_ms=900_000)
    assert body["endsAt"] == at(NOW + 900_000)


def test_a_runbook_that_is_text_is_no_link() -> None:
    (body,) = posted(replace(OPEN, runbook="Call the shop."))
    assert body["annotations"].keys() == {"summary", "evidence", "runbook"}


def test_a_closed_alert_ends_when_it_was_closed_and_its_labels_stay() -> None:
    opened, closed = posted(OPEN, replace(OPEN, closed_at=NOW))
    assert closed["endsAt"] == at(NOW)
    assert closed["labels"] == opened["labels"]


def test_evidence_is_cut_off_where_it_is_long() -> None:
    (body,) = posted(replace(OPEN, evidence={"items": ["x" * 100] * 1_000}))
    assert len(body["annotations"]["evidence"]) == 4_000


def test_one_that_is_away_does_not_keep_the_others_from_their_alerts_and_is_logged_once() -> None:
    away, seen = True, []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        if request.url.host == "one" and away:
            raise httpx.ConnectError("no route to user:secret@one")
        return httpx.Response(400 if request.url.host == "two" and away else 200, text="bad label")

    both = client(answer, "http://user:secret@one", "http://two", "http://three")
    with capture_logs() as logged:
        both.post([OPEN], NOW)
        both.post([OPEN], NOW)
        away = False
        both.post([OPEN], NOW)
        away = True
        both.post([OPEN], NOW)
    assert seen == ["one", "two", "three"] * 4
    reasons = [(entry["number"], entry["reason"]) for entry in logged]
    assert reasons == [(1, "ConnectError"), (2, "it answers 400: bad label")] * 2
    assert "secret" not in str(logged)


def test_without_alerts_nobody_is_asked() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200)

    client(answer, "http://one").post([], NOW)
    assert requests == []


def at(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+00:00")
