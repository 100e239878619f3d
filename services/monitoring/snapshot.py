"""The snapshot of one round of checks, which rules judge, the page shows and Prometheus scrapes.

Drift compares recent features of visitors with the reference in the champion's manifest. The
compared features are those of slates that the model answered. These are the model's own input, in
which busy visitors weigh more, as in the reference. A verdict needs enough different visitors,
since the slates of one visitor resemble each other. The reference is of events that came as they
happened; a model of imported history has none.

Thresholds are those of Evidently and of credit scoring: a population stability index (PSI) of 0.1
is worth a look, 0.25 is another population.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from services.monitoring.attribution import BUCKET_MS, Counts, Watermark
from services.monitoring.probes import FeaturesStatus, ServiceState, Training
from services.monitoring.quality import QualityRow, grouped, row, total
from services.monitoring.repository import SlateLog
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.bundle import Histogram
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS
from slipstream.evaluation.drift import histogram, population_stability_index

Level = Literal["stable", "warning", "critical", "unknown"]


class Thresholds(BaseModel):
    """The PSI of a warning and of a critical drift, and the smallest sample for a verdict.

    A sample is different visitors for a feature, and slates for the mix of steps.
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


class FeatureDriftFigures(BaseModel):
    """The drift of one feature.

    Bins are `edges[i] <= x < edges[i + 1]`, the outermost ones open, with their shares in training
    and lately.
    """

    feature: str
    psi: float | None = Field(description="null without a single recent value")
    level: Level
    slates: int
    visitors: int
    edges: list[float]
    reference: list[float]
    recent: list[float]


class MixDrift(BaseModel):
    """The shares of the answering steps, before and lately. It shows a rise of fallbacks."""

    psi: float | None
    level: Level
    before: dict[str, float]
    recent: dict[str, float]
    before_slates: int
    recent_slates: int


class DriftReport(BaseModel):
    """The drift against the reference of `model_version`.

    Without a model (null), `features` is empty and `reason` says why.
    """

    checked_at: int
    window_ms: int
    model_version: str | None
    reason: str = ""
    thresholds: Thresholds
    features: list[FeatureDriftFigures]
    answered_by: MixDrift


def feature_drift(
    reference: Mapping[str, Histogram],
    recent: Sequence[tuple[str, Mapping[str, float]]],
    thresholds: Thresholds,
) -> list[FeatureDriftFigures]:
    """The drift of each feature of the reference, the greatest first.

    `recent` are pairs of visitor and features, one for each slate.
    """
    drifts = [
        _feature_drift(
            name, shape, [(user_id, f[name]) for user_id, f in recent if name in f], thresholds
        )
        for name, shape in reference.items()
    ]
    return sorted(drifts, key=lambda drift: (-(drift.psi or 0.0), drift.feature))


def _feature_drift(
    name: str, shape: Histogram, recent: list[tuple[str, float]], thresholds: Thresholds
) -> FeatureDriftFigures:
    values = [value for _, value in recent]
    visitors = len({user_id for user_id, _ in recent})
    expected = np.asarray(shape.counts, np.int64)
    actual = histogram(np.asarray(values, np.float64), np.asarray(shape.edges, np.float64))
    psi = population_stability_index(expected, actual) if values else None
    return FeatureDriftFigures(
        feature=name,
        psi=psi,
        level=thresholds.level(psi or 0.0, visitors),
        slates=len(values),
        visitors=visitors,
        edges=shape.edges,
        reference=_shares(expected.tolist()),
        recent=_shares(actual.tolist()),
    )


def mix_drift(
    before: Mapping[str, int], recent: Mapping[str, int], thresholds: Thresholds
) -> MixDrift:
    """The drift of answering steps, from a period to the window after it."""
    steps = sorted(before.keys() | recent.keys())
    old, new = ([counts.get(step, 0) for step in steps] for counts in (before, recent))
    samples = min(sum(old), sum(new))
    psi = (
        population_stability_index(np.asarray(old, np.int64), np.asarray(new, np.int64))
        if samples
        else None
    )
    return MixDrift(
        psi=psi,
        level=thresholds.level(psi or 0.0, samples),
        before=dict(zip(steps, _shares(old), strict=True)),
        recent=dict(zip(steps, _shares(new), strict=True)),
        before_slates=sum(old),
        recent_slates=sum(new),
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


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


class QualityTrend(BaseModel):
    """The model's slates in the last full period, and in the one before it.

    Both periods are past their attribution window, so that the newer is not lower for being new.
    """

    period_ms: int
    current: QualityRow
    previous: QualityRow


class ReturnedCanary(BaseModel):
    """A canary that was stopped by its guard, with the model that it tried."""

    experiment: str
    model: str
    reason: str
    at: int


class Snapshot(BaseModel):
    """The state of the platform at `checked_at`."""

    checked_at: int
    services: list[ServiceState]
    training: Training
    features: FeaturesStatus | None
    freshness: Freshness
    drift: DriftReport
    trend: QualityTrend
    versions: list[QualityRow] = Field(
        description="by model version, slates of the last period up to now"
    )
    returned: list[ReturnedCanary] = Field(
        default_factory=list, description="canaries that were stopped by their guards in a day"
    )


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


def drift_report(
    log: SlateLog, training: Training, settings: MonitoringSection, now_ms: int
) -> DriftReport:
    """The drift of features in the recent window, and of the mix of steps since the period before.

    Args:
        log: Repository of slates.
        training: Training's answers, with the champion's reference.
        settings: Windows and thresholds.
        now_ms: Time of the report.
    """
    window_ms = settings.drift_window_s * 1000
    thresholds = Thresholds(
        warning=settings.psi_warning,
        critical=settings.psi_critical,
        min_samples=settings.drift_min_visitors,
    )
    since = now_ms - window_ms
    recent_counts = log.counts(since, now_ms + 1)
    before_counts = log.counts(since - settings.quality_period_s * 1000, since)
    champion = training.champion
    reason = ""
    if champion is None:
        reason = (
            "no model is in service"
            if training.reached
            else f"training does not answer: {training.detail}"
        )
    elif not champion.reference:
        reason = training.detail or (
            "the model has learned from too few live events; imported ones say nothing of visitors"
            " who are here now"
        )
    recent = log.recent_features(since, settings.drift_max_samples) if champion else []
    return DriftReport(
        checked_at=now_ms,
        window_ms=window_ms,
        model_version=champion.model.version if champion else None,
        reason=reason,
        thresholds=thresholds,
        features=feature_drift(champion.reference, recent, thresholds) if champion else [],
        answered_by=mix_drift(
            {
                step: counts.slates
                for step, counts in grouped(
                    before_counts, lambda bucket: bucket.answered_by
                ).items()
            },
            {
                step: counts.slates
                for step, counts in grouped(
                    recent_counts, lambda bucket: bucket.answered_by
                ).items()
            },
            thresholds.model_copy(update={"min_samples": settings.quality_min_slates}),
        ),
    )


def quality_trend(log: SlateLog, settings: MonitoringSection, now_ms: int) -> QualityTrend:
    """The trend of the model's slates over the last two full periods."""
    period_ms = settings.quality_period_s * 1000
    matured = now_ms - settings.attribution_window_s * 1000
    until = matured - matured % BUCKET_MS

    def answered_by_model(since: int) -> QualityRow:
        counts = log.counts(since, since + period_ms)
        return row(
            total(
                {bucket: each for bucket, each in counts.items() if bucket.answered_by == "model"}
            )
        )

    return QualityTrend(
        period_ms=period_ms,
        current=answered_by_model(until - period_ms),
        previous=answered_by_model(until - 2 * period_ms),
    )


def versions(log: SlateLog, settings: MonitoringSection, now_ms: int) -> list[QualityRow]:
    """Counts and rates of each model version, in the last period up to now."""
    counts: Mapping[str, Counts] = grouped(
        log.counts(now_ms - settings.quality_period_s * 1000, now_ms + 1),
        lambda bucket: bucket.model_version,
    )
    return [row(each, model_version=version) for version, each in sorted(counts.items()) if version]
