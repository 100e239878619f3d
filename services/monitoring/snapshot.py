"""The snapshot of one round of checks, which rules judge, the page shows and Prometheus scrapes.

Drift and faults are those of the newest windows (`drift_watch.py`). Thresholds are those of
Evidently and of credit scoring: a population stability index (PSI) of 0.1 is worth a look, 0.25 is
another population.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from services.monitoring.answers import FIRST_VISIT, Latencies
from services.monitoring.arrivals import Watermark
from services.monitoring.click_trend import ClickTrend
from services.monitoring.drift_watch import FaultReport, Level, ShiftReport
from services.monitoring.probes import FeaturesStatus, ServiceState, Training
from services.monitoring.quality import BUCKET_MS, Bucket, Counts, QualityRow, grouped, row
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS
from slipstream.evaluation.drift import population_stability_index, shares

# The longest time that a rule may take a metric of slates over: a day.
LONGEST_WINDOW_MINUTES: Final = 1_440
# Latencies are those of this time.
LATENCY_MS: Final = 300_000


class Thresholds(BaseModel):
    """The PSI of a warning and of a critical drift, and the smallest sample for a verdict.

    A sample is different visitors for a measure, and slates for the mix of steps.
    """

    warning: float
    critical: float
    min_samples: int

    def level(self, psi: float, samples: int) -> Level:
        if samples < self.min_samples:
            return "unknown"
        return (
            "critical" if psi >= self.critical else "warning" if psi >= self.warning else "stable"
        )


class MixDrift(BaseModel):
    """The shares of the answering steps, before and lately. It shows a rise of fallbacks.

    Lists of visitors without a history are left out.
    """

    psi: float | None
    level: Level
    before: dict[str, float]
    recent: dict[str, float]
    before_slates: int
    recent_slates: int


class DriftReport(BaseModel):
    """The drift in the newest window, the faults of the data, and the mix of answering steps.

    `thresholds` are those of drift.
    """

    checked_at: int
    shifts: ShiftReport
    faults: FaultReport
    thresholds: Thresholds
    answered_by: MixDrift


def mix_drift(
    before: Mapping[str, int], recent: Mapping[str, int], thresholds: Thresholds
) -> MixDrift:
    """The drift of answering steps, from a period to the window after it."""
    steps = sorted(before.keys() | recent.keys())
    old, new = (
        np.array([counts.get(step, 0) for step in steps], np.float64) for counts in (before, recent)
    )
    sizes = int(old.sum()), int(new.sum())
    psi = population_stability_index(old, new) if min(sizes) else None
    return MixDrift(
        psi=psi,
        level=thresholds.level(psi or 0.0, min(sizes)),
        before=dict(zip(steps, shares(old), strict=True)),
        recent=dict(zip(steps, shares(new), strict=True)),
        before_slates=sizes[0],
        recent_slates=sizes[1],
    )


class Freshness(BaseModel):
    """The delay of the online features behind the interactions, in ms; null before the first
    record.
    """

    interactions_watermark: int | None = Field(description="newest event time of an interaction")
    features_watermark: int | None = Field(
        description="newest event time that features has applied"
    )
    last_interaction_at: int | None = Field(description="when ingestion last received one")
    last_update_at: int | None = Field(description="when features last updated one")
    delay_ms: int | None = Field(
        description="from the last update to the last interaction, 0 when the update is the newer"
    )


class ReturnedCanary(BaseModel):
    """A canary that was stopped by its guard, with the model that it tried."""

    experiment: str
    model: str
    reason: str
    at: int


class AnswerLatency(BaseModel):
    """The time that serving took for a slate, in ms, over the slates of five minutes.

    It is at most 2 % more than the true percentile.
    """

    p95_ms: float
    slates: int


class Snapshot(BaseModel):
    """The state of the platform at `checked_at`."""

    checked_at: int
    services: list[ServiceState]
    training: Training
    features: FeaturesStatus | None
    freshness: Freshness
    drift: DriftReport
    trend: ClickTrend
    versions: list[QualityRow] = Field(
        description="by model version, slates of the last period up to now"
    )
    returned: list[ReturnedCanary] = Field(
        default_factory=list, description="canaries that were stopped by their guards in a day"
    )
    answer_latency: AnswerLatency | None = Field(None, description="null without a slate lately")
    # Whether a model has ever been in service, as far as monitoring remembers; and the rejected
    # records of the last hour with all of them, None where they are not known.
    had_champion: bool = Field(False, exclude=True)
    rejections: tuple[int, int] | None = Field(None, exclude=True)
    # Lists as they are answered, None while monitoring is behind the topics; and those of the lake
    # with their clicks. They reach back as far as the longest window of a rule.
    answered: dict[Bucket, Counts] | None = Field(None, exclude=True)
    counts: dict[Bucket, Counts] | None = Field(None, exclude=True)


def answer_latency(latencies: Latencies) -> AnswerLatency | None:
    """The 95th percentile of latencies; None without any."""
    if not latencies.count:
        return None
    return AnswerLatency(p95_ms=latencies.quantile(0.95), slates=latencies.count)


def returned_canaries(experiments: Iterable[Experiment]) -> list[ReturnedCanary]:
    """The entries of canaries that their guards stopped."""
    return [
        ReturnedCanary(
            experiment=it.name,
            model=it.design.variants[-1].model,
            reason=it.design.stopped_because,
            at=it.changed_at,
        )
        for it in experiments
    ]


def freshness(marks: Mapping[str, Watermark]) -> Freshness:
    """The freshness, from the topics' watermarks."""
    interactions, updates = marks.get(INTERACTIONS.name), marks.get(FEATURE_UPDATES.name)
    delay = max(0, interactions.heard_at - updates.heard_at) if interactions and updates else None
    return Freshness(
        interactions_watermark=interactions.event_time if interactions else None,
        features_watermark=updates.event_time if updates else None,
        last_interaction_at=interactions.heard_at if interactions else None,
        last_update_at=updates.heard_at if updates else None,
        delay_ms=delay,
    )


def counted_since(settings: MonitoringSection, now_ms: int) -> int:
    """The start (ms) of the oldest counts that reports, or the longest window of a rule, take."""
    reports_ms = (settings.drift_window_s + settings.quality_period_s) * 1000
    return now_ms - max(reports_ms, LONGEST_WINDOW_MINUTES * 60_000 + BUCKET_MS)


def _between(counts: Mapping[Bucket, Counts], since: int, until: int) -> dict[Bucket, Counts]:
    return {bucket: each for bucket, each in counts.items() if since <= bucket.start < until}


def drift_report(
    counts: Mapping[Bucket, Counts],
    found: tuple[ShiftReport, FaultReport],
    settings: MonitoringSection,
    now_ms: int,
) -> DriftReport:
    """The report on drift, with the mix of steps in the recent window and in the period before.

    Args:
        counts: Lists answered, of both periods at least.
        found: Verdicts of the newest windows.
    """
    thresholds = Thresholds(
        warning=settings.psi_warning,
        critical=settings.psi_critical,
        min_samples=settings.drift_min_visitors,
    )
    since = now_ms - settings.drift_window_s * 1000
    periods = (
        _between(counts, since - settings.quality_period_s * 1000, since),
        _between(counts, since, now_ms + 1),
    )
    before, recent = (
        {
            step: each.slates
            for step, each in grouped(period, lambda bucket: bucket.answered_by).items()
            if step != FIRST_VISIT
        }
        for period in periods
    )
    return DriftReport(
        checked_at=now_ms,
        shifts=found[0],
        faults=found[1],
        thresholds=thresholds,
        answered_by=mix_drift(
            before,
            recent,
            thresholds.model_copy(update={"min_samples": settings.quality_min_slates}),
        ),
    )


def versions(
    counts: Mapping[Bucket, Counts], settings: MonitoringSection, now_ms: int
) -> list[QualityRow]:
    """Counts and rates of each model version, in the last period up to now."""
    period = _between(counts, now_ms - settings.quality_period_s * 1000, now_ms + 1)
    found = grouped(period, lambda bucket: bucket.model_version)
    return [row(each, model_version=version) for version, each in sorted(found.items()) if version]
