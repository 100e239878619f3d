"""Records and snapshots of monitoring with everything but the interesting part filled in."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from services.monitoring.attribution import Counts, Response, ShownSlate
from services.monitoring.migrations import MIGRATIONS
from services.monitoring.probes import Champion, FeaturesStatus, ServiceState, Training
from services.monitoring.quality import QualityRow, row
from services.monitoring.snapshot import (
    DriftReport,
    FeatureDriftFigures,
    Freshness,
    Level,
    MixDrift,
    QualityTrend,
    Snapshot,
    Thresholds,
)
from slipstream.broker.records import encode
from slipstream.contracts.events import Slate
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.slates import RecordedSlate, read_slate
from tests import migrated

T0 = 1_790_000_000_000
WINDOW_MS = 1_800_000
THRESHOLDS = Thresholds(warning=0.1, critical=0.25, min_samples=100)


def database(folder: Path) -> Engine:
    """A SQLite database in a folder, with monitoring's tables."""
    return migrated.database(folder, MIGRATIONS)


def recorded(slate: Slate) -> RecordedSlate:
    """A slate as it is read from its topic."""
    return read_slate(encode(slate))


def shown(
    slate_id: str = "s1", user: str = "u1", at: int = 0, items: str = "abc", **more: Any
) -> ShownSlate:
    """A slate `at` milliseconds after T0, with one item a letter."""
    values = {"answered_by": "model", "model_version": "1"} | more
    return ShownSlate(slate_id, user, T0 + at, items=frozenset(items), **values)


def response(
    event_id: str,
    item: str = "a",
    user: str = "u1",
    at: int = 1_000,
    *,
    named: str | None = None,
    converted: bool = False,
) -> Response:
    return Response(event_id, user, item, T0 + at, converted, named)


def service(
    name: str = "serving", state: str = "ready", down: tuple[str, ...] = ()
) -> ServiceState:
    return ServiceState(name=name, state=state, down=list(down), latency_ms=1.0)  # type: ignore[arg-type]


def champion(version: str = "1") -> Champion:
    return Champion(model=ModelVersion(version=version, created_at=T0))


def feature(name: str, psi: float | None, level: Level) -> FeatureDriftFigures:
    return FeatureDriftFigures(
        feature=name,
        psi=psi,
        level=level,
        slates=900,
        visitors=500,
        edges=[0, 1, 2],
        reference=[0.5, 0.5],
        recent=[0.1, 0.9],
    )


def slates_clicked(clicked: int, of: int) -> QualityRow:
    return row(
        Counts(slates=of, shown=of, items=10 * of, clicked_slates=clicked, clicked_items=clicked)
    )


def snapshot(
    *,
    services: list[ServiceState] | None = None,
    training: Training | None = None,
    features: FeaturesStatus | None = None,
    delay_ms: int | None = None,
    drift: list[FeatureDriftFigures] | None = None,
    mix: MixDrift | None = None,
    current: QualityRow | None = None,
    previous: QualityRow | None = None,
    at: int = T0,
) -> Snapshot:
    """A platform in good order but for what is given."""
    return Snapshot(
        checked_at=at,
        services=[service()] if services is None else services,
        training=training or Training(reached=True, champion=champion()),
        features=features,
        freshness=Freshness(
            interactions_watermark=None,
            features_watermark=None,
            last_interaction_at=None,
            last_update_at=None,
            delay_ms=delay_ms,
        ),
        drift=DriftReport(
            checked_at=at,
            window_ms=3_600_000,
            model_version="1",
            thresholds=THRESHOLDS,
            features=drift or [],
            answered_by=mix
            or MixDrift(
                psi=None, level="unknown", before={}, recent={}, before_slates=0, recent_slates=0
            ),
        ),
        trend=QualityTrend(
            period_ms=86_400_000,
            current=current or slates_clicked(0, 0),
            previous=previous or slates_clicked(0, 0),
        ),
        versions=[],
    )
