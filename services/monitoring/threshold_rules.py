"""Rules that are data: a metric of the newest snapshot, compared with a threshold.

`METRICS` is all that such a rule may compare. A share is judged by the end of its 95 % interval
that is nearer to the threshold, so that few slates open no alert. Pure functions.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from services.monitoring.alert_rules import Action, Finding
from services.monitoring.answers import FIRST_VISIT
from services.monitoring.quality import (
    BUCKET_MS,
    Bucket,
    Counts,
    RateInterval,
    grouped,
    rate,
    total,
    wilson,
)
from services.monitoring.snapshot import LONGEST_WINDOW_MINUTES, Snapshot
from slipstream.contracts.events import Severity

MetricName = Literal[
    "click_through",
    "conversion",
    "fallback_share",
    "empty_share",
    "slates_per_minute",
    "answer_latency_p95",
    "placement_click_through",
    "fallback_shift",
    "list_coverage",
    "list_gini",
    "list_novelty",
    "features_lag",
    "features_delay",
    "interactions_silence",
    "rejected_share",
    "failed_runs",
    "champion_age",
    "readiness_latency",
]
Unit = Literal["share", "per minute", "ms", "s", "h", "records", "runs", "PSI", "bits", "index"]
# The values of rules that name none, where the metric takes them.
WINDOW_MINUTES: Final = 60
LEAST_SAMPLES: Final = 200
# Readings beyond the threshold that an alert's evidence lists.
_SHOWN: Final = 20


class Reading(NamedTuple):
    """A metric's value, with its 95 % interval where it is a share.

    `of` says of which model version, placement or service; it is empty for the whole platform.
    `samples` counts the slates or visitors behind it.
    """

    of: str
    value: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Metric:
    """A metric that monitoring measures.

    Attributes:
        words: Its name in sentences.
        unit: Unit of its values.
        read: Its readings in a snapshot, over the last minutes where it is windowed; none where it
            is unknown.
        by: What it is read by; empty for one reading of the platform.
        sampled: Whether it needs a least number of samples.
        windowed: Whether a rule chooses the minutes that it is taken over.
        of_models: Whether a training run may change it.
    """

    words: str
    unit: Unit
    read: Callable[[Snapshot, int], Iterable[Reading]]
    by: Literal["", "model version", "placement", "service"] = ""
    sampled: bool = False
    windowed: bool = False
    of_models: bool = False

    def shown(self, value: float) -> str:
        """A value in words."""
        return f"{value:.1%}" if self.unit == "share" else f"{value:,.4g} {self.unit}"


class AlertDefinition(BaseModel):
    """The content of a rule: it fails while a reading of `metric` is beyond `threshold`.

    Attributes:
        metric: The metric.
        of: The one model version, placement or service that counts; empty for each of them.
        comparison: The side of the threshold that is bad.
        threshold: In the metric's unit; shares are from 0 to 1.
        for_minutes: Time for which it must fail until an alert opens.
        window_minutes: Time that a metric of slates is taken over; null for 60.
        least_samples: Least slates or visitors of a verdict; null for 200.
        severity: Severity of its alerts.
        runbook: Text or link for those who get the alert.
        action: The request to training: a run, or to promote nothing while the alert is open.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    metric: MetricName
    of: Annotated[str, Field(max_length=256)] = ""
    comparison: Literal["above", "below"]
    threshold: float
    for_minutes: Annotated[float, Field(ge=0, le=1_440)] = 1.0
    window_minutes: Annotated[int, Field(ge=5, le=LONGEST_WINDOW_MINUTES)] | None = None
    least_samples: Annotated[int, Field(ge=1)] | None = None
    severity: Severity = Severity.WARNING
    runbook: Annotated[str, Field(max_length=2_000)] = ""
    action: Action = "none"


@dataclass(frozen=True)
class ThresholdRule:
    """A rule that an operator has defined. One that asks for a run is passed over while the data
    is at fault.
    """

    name: str
    revision: int
    definition: AlertDefinition

    @property
    def action(self) -> Action:
        return self.definition.action

    @property
    def runbook(self) -> str:
        return self.definition.runbook

    @property
    def for_minutes(self) -> float:
        return self.definition.for_minutes

    @property
    def closes_at_once(self) -> bool:
        return False

    def judgeable(self, snapshot: Snapshot) -> bool:
        at_fault = self.action == "retrain" and snapshot.drift.faults.faults
        return not at_fault and bool(self._readings(snapshot))

    def check(self, snapshot: Snapshot) -> Finding | None:
        own, metric = self.definition, METRICS[self.definition.metric]
        above = own.comparison == "above"
        beyond = [
            it
            for it in self._readings(snapshot)
            if (it.low > own.threshold if above else it.high < own.threshold)
        ]
        if not beyond:
            return None
        beyond.sort(key=lambda it: it.value, reverse=above)
        worst = beyond[0]
        of_one = f" of {metric.by} {worst.of or '(none)'}" if metric.by else ""
        others = f", and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        evidence: dict[str, Any] = {
            "metric": own.metric,
            "comparison": own.comparison,
            "threshold": own.threshold,
            "readings": [it._asdict() for it in beyond[:_SHOWN]],
            "revision": self.revision,
        }
        if metric.windowed:
            evidence["window_minutes"] = own.window_minutes or WINDOW_MINUTES
        return Finding(
            own.severity,
            f"{metric.words}{of_one} is {metric.shown(worst.value)}, {own.comparison}"
            f" {metric.shown(own.threshold)}{others}",
            evidence,
        )

    def _readings(self, snapshot: Snapshot) -> list[Reading]:
        own, metric = self.definition, METRICS[self.definition.metric]
        least = (own.least_samples or LEAST_SAMPLES) if metric.sampled else 0
        return [
            it
            for it in metric.read(snapshot, own.window_minutes or WINDOW_MINUTES)
            if it.samples >= least and own.of in ("", it.of)
        ]


def _plain(value: float | None, of: str = "", samples: int = 0) -> list[Reading]:
    return [] if value is None else [Reading(of, value, value, value, samples)]


def _share(of: str, rate: RateInterval) -> list[Reading]:
    return [] if rate.value is None else [Reading(of, rate.value, rate.low, rate.high, rate.of)]


def _since(snapshot: Snapshot, minutes: int) -> int:
    since = snapshot.checked_at - minutes * 60_000
    return since - since % BUCKET_MS


def _lately(
    snapshot: Snapshot, minutes: int, counts: Mapping[Bucket, Counts] | None
) -> Mapping[Bucket, Counts]:
    """The counts of the last minutes; none where they are unknown."""
    since = _since(snapshot, minutes)
    return {it: each for it, each in (counts or {}).items() if it.start >= since}


def _answered(snapshot: Snapshot, minutes: int) -> Mapping[Bucket, Counts]:
    return _lately(snapshot, minutes, snapshot.answered)


def _by_version(outcome: str) -> Callable[[Snapshot, int], Iterable[Reading]]:
    """Shown slates with an outcome, by the model version that answered."""

    def read(snapshot: Snapshot, minutes: int) -> list[Reading]:
        counted = _lately(snapshot, minutes, snapshot.counts)
        by_version = grouped(counted, lambda it: it.model_version)
        return [
            reading
            for version, counts in sorted(by_version.items())
            if version
            for reading in _share(version, rate(getattr(counts, outcome), counts.shown))
        ]

    return read


def _with_model(snapshot: Snapshot, minutes: int) -> Mapping[Bucket, Counts]:
    """The slates of the window since the first model; none while no model is in service."""
    if snapshot.training.champion is None:
        return {}
    # A young shop had no model before: the window begins after the bucket in which one came.
    models = (it.start for it in snapshot.answered or () if it.answered_by == "model")
    first = min(models, default=0)
    return {it: each for it, each in _answered(snapshot, minutes).items() if it.start > first}


def _fallback_share(snapshot: Snapshot, minutes: int) -> list[Reading]:
    counts = _with_model(snapshot, minutes)
    slates = sum(each.slates for it, each in counts.items() if it.answered_by != FIRST_VISIT)
    by_model = sum(each.slates for it, each in counts.items() if it.answered_by == "model")
    return _share("", wilson(slates - by_model, slates))


def _empty_share(snapshot: Snapshot, minutes: int) -> list[Reading]:
    counts = total(_with_model(snapshot, minutes))
    return _share("", wilson(counts.slates - counts.shown, counts.slates))


def _slate_rate(snapshot: Snapshot, minutes: int) -> list[Reading]:
    if snapshot.answered is None:
        return []
    slates = total(_answered(snapshot, minutes)).slates
    # Buckets begin before the window does.
    return _plain(slates * 60_000 / (snapshot.checked_at - _since(snapshot, minutes)))


def _placement_click_through(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    return [
        Reading(it.placement, now.value, now.low, now.high, now.slates)
        for it in snapshot.trend.placements
        if (now := it.current).value is not None
    ]


def _fallback_shift(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    mix = snapshot.drift.answered_by
    if snapshot.training.champion is None or mix.psi is None:
        return []
    fell = mix.recent.get("model", 0.0) < mix.before.get("model", 0.0)
    return _plain(mix.psi if fell else 0.0, samples=min(mix.before_slates, mix.recent_slates))


def _figure(name: str) -> Callable[[Snapshot, int], Iterable[Reading]]:
    def read(snapshot: Snapshot, _minutes: int) -> list[Reading]:
        shifts = snapshot.drift.shifts
        return _plain(shifts.figures.get(name), samples=shifts.visitors or 0)

    return read


def _features_sleeps(snapshot: Snapshot) -> bool:
    return any((it.name, it.state) == ("features", "asleep") for it in snapshot.services)


def _features_lag(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    # One that sleeps has read all records, or Prometheus' rule `NotWaking` fires.
    if _features_sleeps(snapshot):
        return _plain(0)
    return _plain(snapshot.features.lag if snapshot.features else None)


def _features_delay(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    # A repeated interaction updates nothing: with no record left to apply, silence is no delay.
    caught_up = snapshot.features is not None and snapshot.features.lag == 0
    if caught_up or _features_sleeps(snapshot):
        return _plain(0)
    delay_ms = snapshot.freshness.delay_ms
    return _plain(None if delay_ms is None else delay_ms / 1000)


def _rejected_share(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    if snapshot.training.champion is None or snapshot.rejections is None:
        return []
    return _share("", wilson(*snapshot.rejections))


def _failed_runs(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    """The runs that have failed since the last one that did not, the newest first."""
    if snapshot.training.champion is None:
        return []
    ended = [it for it in snapshot.training.runs if it.state in ("succeeded", "failed")]
    return _plain(len(list(takewhile(lambda it: it.state == "failed", ended))))


def _silence(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    if snapshot.training.champion is None:  # the shop may not send yet
        return []
    heard_at = snapshot.freshness.last_interaction_at
    return _plain(None if heard_at is None else max(0, snapshot.checked_at - heard_at) / 1000)


def _champion_age(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    champion = snapshot.training.champion
    if champion is None:
        return []
    return _plain((snapshot.checked_at - champion.model.created_at) / 3_600_000)


def _readiness_latency(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    # Of one that is away it is the time until the connection failed.
    answered = (it for it in snapshot.services if it.state in ("ready", "unready"))
    return [reading for it in answered for reading in _plain(it.latency_ms, it.name)]


def _answer_latency(snapshot: Snapshot, _minutes: int) -> list[Reading]:
    latency = snapshot.answer_latency
    return _plain(latency.p95_ms, samples=latency.slates) if latency else []


METRICS: Final[Mapping[MetricName, Metric]] = {
    "click_through": Metric(
        "click-through", "share", _by_version("clicked_slates"), "model version",
        sampled=True, windowed=True, of_models=True,
    ),
    "conversion": Metric(
        "conversion", "share", _by_version("converted_slates"), "model version",
        sampled=True, windowed=True, of_models=True,
    ),
    "fallback_share": Metric(
        "the share of slates without the model", "share", _fallback_share,
        sampled=True, windowed=True,
    ),
    "empty_share": Metric(
        "the share of empty slates", "share", _empty_share, sampled=True, windowed=True
    ),
    "slates_per_minute": Metric("the rate of slates", "per minute", _slate_rate, windowed=True),
    "answer_latency_p95": Metric(
        "the 95th percentile of answers' latency", "ms", _answer_latency, sampled=True
    ),
    "placement_click_through": Metric(
        "click-through", "share", _placement_click_through, "placement",
        sampled=True, of_models=True,
    ),
    "fallback_shift": Metric(
        "the shift from the model to other steps", "PSI", _fallback_shift, sampled=True
    ),
    "list_coverage": Metric(
        "coverage of lists", "share", _figure("coverage"), sampled=True, of_models=True
    ),
    "list_gini": Metric("Gini of lists", "index", _figure("gini"), sampled=True, of_models=True),
    "list_novelty": Metric(
        "novelty of lists", "bits", _figure("novelty"), sampled=True, of_models=True
    ),
    "features_lag": Metric("features' lag", "records", _features_lag),
    "features_delay": Metric("features' delay behind ingestion", "s", _features_delay),
    "interactions_silence": Metric("the time without an interaction", "s", _silence),
    "rejected_share": Metric(
        "the share of rejected records", "share", _rejected_share, sampled=True
    ),
    "failed_runs": Metric("the failed training runs in a row", "runs", _failed_runs),
    "champion_age": Metric("the age of the model in service", "h", _champion_age, of_models=True),
    "readiness_latency": Metric("the latency of readiness", "ms", _readiness_latency, "service"),
}  # fmt: skip
