"""The snapshot of one round of checks, which rules judge, the page shows and Prometheus scrapes."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, Field

from services.monitoring.arrivals import Watermark
from services.monitoring.attribution import BUCKET_MS, Counts
from services.monitoring.drift_monitor import DriftReport, Thresholds, feature_drift, mix_drift
from services.monitoring.probes import FeaturesStatus, ServiceState, Training
from services.monitoring.quality import QualityRow, grouped, row, total
from services.monitoring.repository import SlateLog
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS


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
            else f"training could not be asked: {training.detail}"
        )
    elif not champion.reference:
        reason = training.detail or "the model's manifest holds no reference distributions"
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
