"""The verdict and the alerts of monitoring's page, with its script in node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.monitoring.api import PAGE
from services.monitoring.drift_watch import Fault
from tests.unit.monitoring.builders import feature, snapshot

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="node is not installed; Debian, Ubuntu: apt install nodejs"
)
NOW = 1_700_000_000_000
HOUR = 3_600_000
NO_SLATES = {"total": {"slates": 0}}
OVERVIEW = {
    "snapshot": {
        "checked_at": NOW,
        "services": [],
        "training": {"reached": True, "detail": "", "champion": None, "runs": []},
        "freshness": {"last_interaction_at": None, "delay_ms": None},
        "features": None,
        "drift": {
            "shifts": {
                "features": [],
                "reason": "",
                "window_ms": HOUR,
                "start": None,
                "visitors": 0,
            },
            "faults": {"faults": []},
            "thresholds": {"warning": 0.1, "critical": 0.25, "min_samples": 300},
            "answered_by": {"recent": {}, "before": {}, "recent_slates": 0, "before_slates": 0},
        },
    },
    "check_interval_s": 10,
    "model_events": [],
}


def alert(rule: str, opened_at: int, closed_at: int | None = None) -> dict[str, Any]:
    return {
        "alert_id": f"{rule}-{opened_at}",
        "rule": rule,
        "severity": "critical",
        "state": "closed" if closed_at else "open",
        "summary": "",
        "evidence": {},
        "action": "none",
        "opened_at": opened_at,
        "closed_at": closed_at,
    }


def shown(alerts: list[dict[str, Any]], overview: dict[str, Any] | None = None) -> dict[str, Any]:
    """Show the page with an API that has these alerts, newest first."""
    answers: dict[str, Any] = {
        "v1/overview": overview or OVERVIEW,
        "v1/reports/quality?hours=24&step=hour": NO_SLATES,
    }
    for state, limit in (("open", 100), ("closed", 8)):
        chosen = [alert for alert in alerts if alert["state"] == state]
        cursor = "more" if len(chosen) > limit else None
        answers[f"v1/alerts?state={state}&limit={limit}"] = {
            "items": chosen[:limit],
            "next_cursor": cursor,
        }
    ended = subprocess.run(
        [str(NODE), str(Path(__file__).with_name("page_in_node.cjs")), str(PAGE)],
        input=json.dumps(answers),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout)
    return seen


def test_an_alert_that_is_open_for_days_is_not_hidden_by_newer_ones_that_closed() -> None:
    newer = [alert("service_down", NOW - n * HOUR, NOW - n * HOUR + 60_000) for n in range(1, 10)]
    seen = shown([*newer, alert("feature_drift", NOW - 72 * HOUR)])
    assert (seen["verdict"], seen["kind"]) == ("1 open alert", "state bad")
    assert seen["title"] == "(1) Slipstream monitoring"
    assert len(seen["alerts"]) == 8
    assert seen["note"] == "Older ones: GET /v1/alerts"
    assert "feature drift" in seen["alerts"][0]
    assert all("service down" in text for text in seen["alerts"][1:])


def test_without_an_open_alert_all_is_well_and_the_closed_ones_are_listed() -> None:
    seen = shown([alert("service_down", NOW - HOUR, NOW)])
    assert (seen["verdict"], seen["kind"]) == ("All well", "state good")
    assert (len(seen["alerts"]), seen["note"]) == (1, "")


def test_more_open_alerts_than_the_list_has_room_for_are_all_shown() -> None:
    seen = shown([alert(f"rule_{n}", NOW - n * HOUR) for n in range(9)])
    assert seen["verdict"] == "9 open alerts"
    assert len(seen["alerts"]) == 9


def test_drift_and_faults_are_shown_as_the_api_has_them() -> None:
    features = [feature("brands", 0.31, "critical"), feature("price", None, "unknown")]
    fault = Fault(measure="catalogue_items", why="not known for 40% of visitors")
    found = snapshot(drift=features, faults=[fault], at=NOW).model_dump(mode="json")
    seen = shown([], OVERVIEW | {"snapshot": found})
    assert "catalogue items: not known for 40% of visitors" in seen["drift"]
    assert "brandsshift0.310a season before" in seen["drift"]
    assert "pricetoo few–" in seen["drift"]
    assert "Nothing to compare with." in shown([])["drift"]
