from collections import Counter
from collections.abc import Iterable
from typing import Any

from services.monitoring.probes import ServiceState
from slipstream.contracts.rest import Run
from slipstream.evaluation.findings import Finding, Weight
from slipstream_cli.doctor import stack

NOW = 1_790_000_000_000


def only(found: Iterable[Finding]) -> Finding:
    (finding,) = found
    return finding


def state(name: str, state: str, detail: str = "") -> ServiceState:
    return ServiceState.model_validate(
        {"name": name, "state": state, "detail": detail, "latency_ms": 1}
    )


def test_services_that_are_not_ready() -> None:
    services = [
        state("serving", "ready"),
        state("ingestion", "asleep", "ConnectError: refused"),
        state("features", "unready", "redis: no answer"),
    ]
    found = only(stack.check_services(services))
    assert (found.weight, found.figure) == (
        Weight.CRITICAL,
        "features is unready: redis: no answer",
    )


def test_dead_letters_beside_the_events() -> None:
    letters = stack.LetterFigures(Counter(missing_item=40, bot=2), all_read=False)
    found = only(stack.check_letters(letters, 100_000))
    assert found.weight is Weight.NOTE
    assert found.figure == (
        "at least 42 dead letters, compared with 100,000 events in the lake: missing_item 40, bot 2"
    )
    assert only(stack.check_letters(letters, 1_000)).weight is Weight.WARNING
    assert not list(stack.check_letters(stack.LetterFigures(), 0))


def test_alerts_that_no_check_of_its_own_tells() -> None:
    alerts = [
        {"rule": "service_down", "severity": "critical", "summary": "serving is away"},
        {"rule": "feature_drift", "severity": "critical", "summary": "2 of 9 features drifted"},
    ]
    found = only(stack.check_alerts(alerts))
    assert (found.check, found.weight, found.remedy) == (
        "alert_feature_drift",
        Weight.CRITICAL,
        "docs/runbook/feature_drift.md",
    )
    (lagging,) = stack.check_alerts([alerts[1] | {"severity": "warning"}])
    assert lagging.weight is Weight.WARNING


def run(name: str, **values: Any) -> Run:
    known = {"state": "succeeded", "trigger": "request", "created_at": NOW}
    return Run.model_validate({"run_id": name, **known, **values})


def test_no_model_without_a_run_and_after_a_refusal() -> None:
    assert only(stack.check_training(False, [], 9)).remedy == "slipstream runs start --follow"
    refused = run("r1", decision="refused", decision_reason="worse than popularity")
    found = only(stack.check_training(False, [refused], 9))
    assert found.check == "no_model" and "refused r1: worse than popularity" in found.figure
    assert "slipstream runs show r1" in found.remedy
    # Without events there is nothing to train on, and the events' own check says so.
    assert list(stack.check_training(False, [], 0)) == []


def test_failed_run_and_one_that_starts_again() -> None:
    failed = run("r2", state="failed", error="out of memory", finished_at=NOW)
    found = only(stack.check_training(True, [failed], 9))
    assert found.check == "run_failed" and "out of memory" in found.figure
    again = failed.model_copy(update={"state": "queued", "attempt": 2, "finished_at": None})
    assert list(stack.check_training(True, [again], 9)) == []
