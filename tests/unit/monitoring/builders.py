"""Records and snapshots of monitoring with everything but the interesting part filled in."""

from dataclasses import asdict
from itertools import count
from pathlib import Path

from sqlalchemy import Engine

from services.monitoring.answers import MINUTE_MS, Answer, AnswerKey
from services.monitoring.click_trend import ClickTrend, PlacementTrend, VisitorRate
from services.monitoring.counting.tables import lists
from services.monitoring.drift_watch import (
    Fault,
    FaultReport,
    FeatureDriftFigures,
    Level,
    ShiftReport,
)
from services.monitoring.migrations import MIGRATIONS
from services.monitoring.probes import Champion, FeaturesStatus, ServiceState, Training
from services.monitoring.quality import BUCKET_MS, Bucket, Counts
from services.monitoring.snapshot import DriftReport, Freshness, MixDrift, Snapshot, Thresholds
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


def count_lists(engine: Engine, at: int, counts: Counts, *, version: str = "1") -> None:
    """Count lists that a model answered at a time (ms), and what followed, as of the lake."""
    bucket = Bucket(at - at % BUCKET_MS, version, "model")
    with engine.begin() as db:
        db.execute(lists.insert().values(**bucket._asdict(), **asdict(counts)))


_offsets = count()


def answer(
    at: int = 0,
    *,
    version: str = "1",
    step: str = "model",
    items: int = 3,
    latency_ms: float = 0.0,
) -> Answer:
    """An answer `at` milliseconds after T0, with an offset of its own."""
    start = T0 + at - (T0 + at) % MINUTE_MS
    key = AnswerKey(start, version, step, "", "", "")
    return Answer("t:0", next(_offsets), key, items, latency_ms)


def service(
    name: str = "serving", state: str = "ready", down: tuple[str, ...] = ()
) -> ServiceState:
    return ServiceState(name=name, state=state, down=list(down), latency_ms=1.0)  # type: ignore[arg-type]


def champion(version: str = "1") -> Champion:
    return Champion(model=ModelVersion(version=version, created_at=T0))


def feature(
    name: str, psi: float | None, level: Level, *, lasting: bool | None = None
) -> FeatureDriftFigures:
    """The drift of a measure; a shift above `stable`, which lasts unless it is said."""
    shifted = level in ("warning", "critical")
    return FeatureDriftFigures(
        feature=name,
        of="read",
        reference_window="season",
        level=level,
        kind="shift" if shifted else "",
        lasting=shifted if lasting is None else lasting,
        psi=psi,
        jensen_shannon=0.1,
        kolmogorov_smirnov=None,
        wasserstein=None,
        p=1e-9,
        visitors=500,
        reference_visitors=500,
        labels=["a", "b"],
        reference=[0.5, 0.5],
        recent=[0.1, 0.9],
    )


def clicks(placement: str, value: float, before: float, *, fell: bool) -> PlacementTrend:
    """The trend of a placement, from one rate to another."""
    now, then = (
        VisitorRate(value=rate, low=rate / 2, high=rate * 2, slates=1_000, visitors=400)
        for rate in (value, before)
    )
    return PlacementTrend(placement=placement, current=now, before=then, p=1e-6, fell=fell)


def snapshot(
    *,
    services: list[ServiceState] | None = None,
    training: Training | None = None,
    features: FeaturesStatus | None = None,
    delay_ms: int | None = None,
    drift: list[FeatureDriftFigures] | None = None,
    mix: MixDrift | None = None,
    faults: list[Fault] | None = None,
    judged: bool = True,
    trend: list[PlacementTrend] | None = None,
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
            shifts=ShiftReport(
                start=at, window_ms=3_600_000, model_version="1", features=drift or []
            ),
            faults=FaultReport(start=at, window_ms=3_600_000, judged=judged, faults=faults or []),
            thresholds=THRESHOLDS,
            answered_by=mix
            or MixDrift(
                psi=None, level="unknown", before={}, recent={}, before_slates=0, recent_slates=0
            ),
        ),
        trend=ClickTrend(period_ms=86_400_000, until=at, placements=trend or []),
        versions=[],
    )
