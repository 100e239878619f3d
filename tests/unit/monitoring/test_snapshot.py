"""The mix of answering steps, lately and before."""

from services.monitoring.snapshot import mix_drift
from tests.unit.monitoring.builders import THRESHOLDS


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
