"""When a run starts that nobody asked for."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.training.metrics import TrainingMetrics
from services.training.repository import LastRun, Repository
from services.training.runs import Runs
from services.training.settings import TrainingSection
from services.training.triggers import MINUTE_MS, Due, Triggers, asked_by, due
from slipstream.broker.consumer import Batch, Message, Source
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.stores.artifacts import Artifacts

NOW = 1_700_000_000_000
SETTINGS = TrainingSection(schedule_minutes=60, new_events=1_000, cooldown_minutes=30)


def ended(minutes_ago: float, rows: int | None = 5_000) -> LastRun:
    at = int(NOW - minutes_ago * MINUTE_MS)
    return LastRun(at - MINUTE_MS, at, rows)


@pytest.mark.parametrize(
    ("last", "rows", "running_minutes", "trigger"),
    [
        pytest.param(None, 999, 1, None, id="first run, too few events"),
        pytest.param(None, 1_000, 1, "events", id="first run, enough events"),
        pytest.param(None, 5, 60, "schedule", id="first run, long enough up"),
        pytest.param(None, 0, 600, None, id="empty lake"),
        pytest.param(ended(45), 5_999, 600, None, id="too few new events"),
        pytest.param(ended(45), 6_000, 600, "events", id="enough new events"),
        pytest.param(ended(29), 9_000, 600, None, id="enough new events, cooling down"),
        pytest.param(ended(61), 5_000, 600, "schedule", id="time is up"),
        pytest.param(ended(59), 5_000, 1, None, id="time is not up"),
        pytest.param(ended(45), 1_200, 600, "events", id="lake made anew"),
        pytest.param(ended(45, None), 1_000, 600, "events", id="last run never read the lake"),
        pytest.param(LastRun(NOW, None, 0), 9_000, 600, None, id="a run is under way"),
    ],
)
def test_due(last: LastRun | None, rows: int, running_minutes: int, trigger: str | None) -> None:
    found = due(last, rows, NOW - running_minutes * MINUTE_MS, NOW, SETTINGS)
    assert (found.trigger if found else None) == trigger


def test_due_switched_off_never_starts() -> None:
    off = SETTINGS.model_copy(update={"schedule_minutes": 0, "new_events": 0})
    assert due(None, 10**9, 0, NOW, off) is None


def alert(action: str = "retrain", state: str = "opened") -> AlertEvent:
    return AlertEvent.model_validate(
        {
            "alert_id": "a1", "rule": "drift", "severity": Severity.WARNING, "state": state, "summary": "views shifted",
            "action": action, "timestamp": NOW,
        }
    )  # fmt: skip


def test_asked_by_alert_that_asks_for_retraining() -> None:
    assert asked_by(alert(), None, NOW, SETTINGS) == Due("alert", "drift: views shifted")
    assert asked_by(alert(), ended(31), NOW, SETTINGS) is not None


@pytest.mark.parametrize("heard", [alert(action="none"), alert(state="closed")])
def test_asked_by_other_alerts_is_nothing(heard: AlertEvent) -> None:
    assert asked_by(heard, None, NOW, SETTINGS) is None


@pytest.mark.parametrize("last", [ended(29), LastRun(NOW, None, None)])
def test_asked_by_alert_during_cooldown_or_run_is_nothing(last: LastRun) -> None:
    assert asked_by(alert(), last, NOW, SETTINGS) is None


def test_on_alerts_queues_one_run_with_the_request_id_of_the_alert(repository: Repository, artifacts: Artifacts) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is worked off here")

    metrics = TrainingMetrics(CollectorRegistry())
    runs = Runs(repository, artifacts, prepare=never, compute=never, publish=never, metrics=metrics, timeout_s=1)
    source = Source("alerts.v1", "t", 0)
    heard = [Message(source, offset, "drift", alert(), f"r-{offset}") for offset in range(2)]
    Triggers(runs, repository, lambda: 0, SETTINGS).on_alerts(Batch(messages=heard))
    (run,) = repository.in_state("queued")
    assert (run.trigger, repository.request_id(run.run_id)) == ("alert", "r-0")
