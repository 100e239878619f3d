"""Recent features against the reference, and the mix of answering steps."""

from pathlib import Path

import numpy as np
import pytest

from services.monitoring.probes import Training
from services.monitoring.repository import SlateLog
from services.monitoring.settings import MonitoringSection
from services.monitoring.snapshot import drift_report, feature_drift, mix_drift
from slipstream.contracts.bundle import Histogram
from tests.unit.monitoring.builders import T0, THRESHOLDS, WINDOW_MS, champion, database

REFERENCE = {"views": Histogram(edges=[0.0, 10.0, 20.0, 30.0], counts=[1000, 1000, 1000])}


def _recent(shares: tuple[int, int, int]) -> list[tuple[str, dict[str, float]]]:
    """A slate a visitor, so many in each bin."""
    values = [
        value for value, count in zip((5.0, 15.0, 25.0), shares, strict=True) for _ in range(count)
    ]
    return [(f"u{number}", {"views": value}) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("shares", "level"),
    [((200, 200, 200), "stable"), ((120, 180, 300), "warning"), ((20, 20, 560), "critical")],
)
def test_feature_drift_levels_by_psi(shares: tuple[int, int, int], level: str) -> None:
    (drift,) = feature_drift(REFERENCE, _recent(shares), THRESHOLDS)
    assert drift.level == level
    assert drift.recent == pytest.approx([share / 600 for share in shares])
    assert drift.reference == pytest.approx([1 / 3] * 3)


def test_feature_drift_gives_no_verdict_on_few_visitors() -> None:
    (drift,) = feature_drift(REFERENCE, _recent((0, 0, 99)), THRESHOLDS)
    assert (drift.level, drift.visitors) == ("unknown", 99)
    assert drift.psi is not None
    reloading = [("u0", {"views": 25.0})] * 1_000
    (drift,) = feature_drift(REFERENCE, reloading, THRESHOLDS)
    assert (drift.level, drift.slates, drift.visitors) == ("unknown", 1_000, 1)


def test_feature_drift_without_recent_values_has_no_psi() -> None:
    (drift,) = feature_drift(REFERENCE, [("u", {"other": 1.0})], THRESHOLDS)
    assert (drift.psi, drift.level, drift.recent) == (None, "unknown", [0.0, 0.0, 0.0])


def test_feature_drift_puts_the_worst_first() -> None:
    reference = {"a": REFERENCE["views"], "b": REFERENCE["views"]}
    recent = [(user_id, {"a": x["views"], "b": 25.0}) for user_id, x in _recent((200, 200, 200))]
    assert [drift.feature for drift in feature_drift(reference, recent, THRESHOLDS)] == ["b", "a"]


def test_feature_drift_of_the_same_population_stays_below_the_warning_by_default() -> None:
    random = np.random.default_rng(7)
    values = random.exponential(10, 20_000)
    edges = np.quantile(values, np.linspace(0, 1, 11))
    reference = {"views": Histogram(edges=edges.tolist(), counts=[2_000] * 10)}
    visitors = MonitoringSection().drift_min_visitors
    for _ in range(200):
        recent = [
            (f"u{n}", {"views": float(value)})
            for n, value in enumerate(random.exponential(10, visitors))
        ]
        (drift,) = feature_drift(reference, recent, THRESHOLDS)
        assert drift.level == "stable"


def test_mix_drift_of_a_shift_to_fallbacks_is_critical() -> None:
    drift = mix_drift(
        {"model": 900, "trending": 100}, {"model": 50, "similar": 30, "trending": 20}, THRESHOLDS
    )
    assert drift.level == "critical"
    assert drift.recent == {"model": 0.5, "similar": 0.3, "trending": 0.2}
    assert drift.before == {"model": 0.9, "similar": 0.0, "trending": 0.1}


def test_mix_drift_without_a_period_before_gives_no_verdict() -> None:
    drift = mix_drift({}, {"model": 500}, THRESHOLDS)
    assert (drift.psi, drift.level, drift.recent_slates) == (None, "unknown", 500)


def test_drift_says_why_there_is_no_reference(tmp_path: Path) -> None:
    log = SlateLog(database(tmp_path), WINDOW_MS)

    def reason(detail: str) -> str:
        training = Training(reached=True, detail=detail, champion=champion())
        return drift_report(log, training, MonitoringSection(), T0).reason

    assert reason("the manifest is gone") == "the manifest is gone"
    assert reason("").startswith("the model has learned from too few live events")
