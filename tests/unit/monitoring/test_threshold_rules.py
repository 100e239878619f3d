"""Metrics of alert rules, read from snapshots, and the verdicts of rules on them."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.answers import FIRST_VISIT
from services.monitoring.drift_watch import Fault
from services.monitoring.probes import FeaturesStatus, Training
from services.monitoring.quality import BUCKET_MS, Bucket, Counts, wilson
from services.monitoring.snapshot import AnswerLatency, MixDrift, Snapshot
from services.monitoring.threshold_rules import (
    LEAST_SAMPLES,
    METRICS,
    AlertDefinition,
    MetricName,
    ThresholdRule,
)
from slipstream.contracts.events import Severity
from slipstream.contracts.rest import Run
from tests.unit.monitoring.builders import T0, clicks, service, snapshot

NOW = T0 - T0 % BUCKET_MS + 60_000
DOCUMENTED = Path(__file__).parents[3] / "docs" / "alerts.md"


def rule(metric: MetricName, comparison: str, threshold: float, **more: Any) -> ThresholdRule:
    definition = AlertDefinition(
        metric=metric,
        comparison=comparison,
        threshold=threshold,
        **more,  # type: ignore[arg-type]
    )
    return ThresholdRule("r", 3, definition)


def counted(buckets: dict[tuple[int, str, str], Counts], **more: Any) -> Snapshot:
    """A snapshot with counts of five minutes: (minutes ago, version, step) → counts."""
    counts = {
        Bucket((NOW - ago * 60_000) // BUCKET_MS * BUCKET_MS, version, step): each
        for (ago, version, step), each in buckets.items()
    }
    return snapshot(at=NOW, **more).model_copy(update={"counts": counts, "answered": counts})


def values(metric: MetricName, state: Snapshot, minutes: int = 60) -> dict[str, float]:
    return {it.of: it.value for it in METRICS[metric].read(state, minutes)}


def mix(recent: float, before: float, psi: float | None, slates: int = 1_000) -> MixDrift:
    shares = ({"model": share, "trending": 1 - share} for share in (before, recent))
    old, new = shares
    return MixDrift(
        psi=psi, level="stable", before=old, recent=new, before_slates=slates, recent_slates=900
    )


def test_the_list_of_metrics_is_closed_and_documented() -> None:
    assert list(METRICS) == list(get_args(MetricName))
    text = DOCUMENTED.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows if row.split("`")[1] in METRICS] == list(METRICS)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_which_nothing_is_known_has_no_reading(metric: MetricName) -> None:
    empty = snapshot(services=[], training=Training(reached=False))
    assert list(METRICS[metric].read(empty, 60)) == []
    assert not rule(metric, "above", 0).judgeable(empty)


def test_metrics_of_slates_are_those_of_the_window() -> None:
    state = counted(
        {
            (0, "4", "model"): Counts(slates=100, shown=80, clicked_slates=8, converted_slates=4),
            (20, "4", "model"): Counts(slates=100, shown=100, clicked_slates=28),
            (20, "3", "model"): Counts(slates=50, shown=50, clicked_slates=5),
            (0, "", "trending"): Counts(slates=50, shown=50, clicked_slates=1),
            (200, "3", "model"): Counts(slates=1),
        }
    )
    assert values("click_through", state) == {"3": 0.1, "4": 0.2}
    assert values("click_through", state, 10) == {"4": 0.1}
    assert values("conversion", state, 10) == {"4": 0.05}
    assert values("fallback_share", state) == {"": 50 / 300}
    assert values("fallback_share", state, 10) == {"": 50 / 150}
    assert values("empty_share", state) == {"": 20 / 300}
    # The window begins with a bucket: eleven minutes before now.
    assert values("slates_per_minute", state, 10) == {"": 150 / 11}
    (clicked,) = METRICS["click_through"].read(state, 10)
    assert (clicked.low, clicked.high) == (wilson(8, 80).low, wilson(8, 80).high)
    assert clicked.samples == 80


def test_silence_of_slates_is_a_reading_and_a_backlog_is_none() -> None:
    assert values("slates_per_minute", counted({})) == {"": 0}
    assert values("slates_per_minute", snapshot(at=NOW)) == {}
    silent = rule("slates_per_minute", "below", 1)
    assert silent.check(counted({})) is not None
    assert not silent.judgeable(snapshot(at=NOW))


def test_fallbacks_are_known_only_with_a_model() -> None:
    slates = {(0, "", "trending"): Counts(slates=300, shown=300)}
    without = Training(reached=True)
    assert values("fallback_share", counted(slates, training=without)) == {}
    assert values("fallback_shift", snapshot(training=without, mix=mix(0.1, 0.9, 0.3))) == {}
    found = rule("fallback_share", "above", 0.5).check(counted(slates))
    assert found is not None
    assert found.summary == "the share of slates without the model is 100.0%, above 50.0%"


def test_silence_and_empty_lists_before_a_first_model_are_no_readings() -> None:
    state = counted({(0, "", ""): Counts(slates=300)}, training=Training(reached=True))
    heard = state.freshness.model_copy(update={"last_interaction_at": NOW - 3_600_000})
    state = state.model_copy(update={"freshness": heard})
    assert values("empty_share", state) == values("interactions_silence", state) == {}
    served = state.model_copy(update={"training": snapshot().training})
    assert values("empty_share", served) == {"": 1.0}
    assert values("interactions_silence", served) == {"": 3_600.0}


def test_first_visits_are_no_fallbacks() -> None:
    state = counted(
        {
            (200, "3", "model"): Counts(slates=1),
            (0, "4", "model"): Counts(slates=300, shown=300),
            (0, "", "trending"): Counts(slates=100, shown=100),
            (0, "", FIRST_VISIT): Counts(slates=3_000, shown=2_900),
        }
    )
    assert values("fallback_share", state) == {"": 100 / 400}
    assert values("empty_share", state) == {"": 100 / 3_400}


def test_rejections_and_failed_runs_count_while_a_model_is_in_service() -> None:
    def run(state: str) -> Run:
        return Run(run_id="r", state=state, trigger="manual", created_at=1)

    served = snapshot(at=NOW)
    young = Training(reached=True, runs=[run("failed")])
    state = served.model_copy(update={"training": young, "rejections": (60, 400)})
    assert values("rejected_share", state) == values("failed_runs", state) == {}
    runs = [run("running"), run("failed"), run("succeeded"), run("failed")]
    training = served.training.model_copy(update={"runs": runs})
    state = state.model_copy(update={"training": training})
    assert values("rejected_share", state) == {"": 60 / 400}
    assert values("failed_runs", state) == {"": 1.0}


def test_what_a_young_shop_showed_before_its_first_model_is_no_fallback() -> None:
    before = {(ago, "", "trending"): Counts(slates=500, shown=500) for ago in (10, 5)}
    came = before | {(5, "1", "model"): Counts(slates=100, shown=100)}
    assert values("fallback_share", counted(came)) == {}
    since = {
        (0, "1", "model"): Counts(slates=300, shown=300),
        (0, "", "trending"): Counts(slates=100, shown=100),
    }
    assert values("fallback_share", counted(came | since)) == {"": 0.25}


def test_only_a_fall_of_the_model_is_a_fallback_shift() -> None:
    assert values("fallback_shift", snapshot(mix=mix(0.6, 0.9, 0.3))) == {"": 0.3}
    assert values("fallback_shift", snapshot(mix=mix(0.9, 0.6, 0.3))) == {"": 0.0}
    few = snapshot(mix=mix(0.6, 0.9, 0.3, slates=LEAST_SAMPLES - 1))
    assert not rule("fallback_shift", "above", 0.25).judgeable(few)


@pytest.mark.parametrize(
    ("lag", "delay_ms", "seconds"),
    [(1, 61_000, 61.0), (0, 61_000, 0.0), (1, None, None), (None, 61_000, 61.0)],
)
def test_features_that_has_read_all_records_has_no_delay(
    lag: int | None, delay_ms: int | None, seconds: float | None
) -> None:
    features = None if lag is None else FeaturesStatus(applied=1, lag=lag, caught_up=False)
    state = snapshot(features=features, delay_ms=delay_ms)
    assert values("features_delay", state) == ({} if seconds is None else {"": seconds})
    assert values("features_lag", state) == ({} if lag is None else {"": lag})


def test_features_that_sleeps_does_not_lag() -> None:
    asleep = snapshot(services=[service("features", "asleep")], delay_ms=61_000)
    assert values("features_lag", asleep) == values("features_delay", asleep) == {"": 0}


def test_other_metrics_are_those_of_the_snapshot() -> None:
    state = snapshot(
        trend=[clicks("home", 0.04, 0.1, fell=True), clicks("", 0.2, 0.2, fell=False)],
        services=[service("serving"), service("features", "away")],
        at=T0 + 7_200_000,
    )
    state.freshness.last_interaction_at = T0 + 7_140_000
    state.answer_latency = AnswerLatency(p95_ms=40.0, slates=300)
    state.drift.shifts.figures, state.drift.shifts.visitors = {"coverage": 0.3, "gini": 0.9}, 500
    assert values("placement_click_through", state) == {"home": 0.04, "": 0.2}
    assert values("readiness_latency", state) == {"serving": 1.0}
    assert values("interactions_silence", state) == {"": 60.0}
    assert values("champion_age", state) == {"": 2.0}
    assert values("answer_latency_p95", state) == {"": 40.0}
    assert values("list_coverage", state) == {"": 0.3}
    assert values("list_gini", state) == {"": 0.9}
    assert values("list_novelty", state) == {}


def test_a_finding_names_the_worst_and_gives_its_figures() -> None:
    state = counted(
        {
            (0, version, "model"): Counts(slates=1_000, shown=1_000, clicked_slates=clicked)
            for version, clicked in (("3", 10), ("4", 20), ("5", 200))
        }
    )
    found = rule("click_through", "below", 0.05, severity="critical").check(state)
    assert found is not None
    assert found.severity is Severity.CRITICAL
    assert found.summary == "click-through of model version 3 is 1.0%, below 5.0%, and 1 more"
    assert [it["of"] for it in found.evidence["readings"]] == ["3", "4"]
    assert {key: found.evidence[key] for key in found.evidence if key != "readings"} == {
        "metric": "click_through",
        "comparison": "below",
        "threshold": 0.05,
        "revision": 3,
        "window_minutes": 60,
    }
    only = rule("click_through", "below", 0.05, of="4").check(state)
    assert only is not None
    assert only.summary.startswith("click-through of model version 4 is 2.0%")
    assert rule("click_through", "below", 0.05, of="5").check(state) is None
    assert not rule("click_through", "below", 0.05, of="6").judgeable(state)


@pytest.mark.parametrize(("action", "judged"), [("retrain", False), ("hold", True)])
def test_no_run_is_requested_while_the_data_is_at_fault(action: str, judged: bool) -> None:
    faulty = snapshot(faults=[Fault(measure="items", why="gone")])
    assert rule("champion_age", "above", 1, action=action).judgeable(faulty) is judged


@given(st.integers(0, 2_000), st.integers(1, 2_000), st.floats(0, 1))
def test_a_share_is_beyond_only_with_its_whole_interval(
    clicked: int, shown: int, threshold: float
) -> None:
    clicked = min(clicked, shown)
    state = counted({(0, "4", "model"): Counts(slates=shown, shown=shown, clicked_slates=clicked)})
    interval = wilson(clicked, shown)
    for comparison, beyond in (
        ("above", interval.low > threshold),
        ("below", interval.high < threshold),
    ):
        own = rule("click_through", comparison, threshold, least_samples=100)
        assert own.judgeable(state) is (shown >= 100)
        assert (own.check(state) is not None) is (beyond and shown >= 100)
