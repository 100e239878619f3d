"""The metrics of serving, in addition to those of the chassis."""

from collections.abc import Callable, Iterable
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream.chassis.logging import TracedId, get_logger, request_id
from slipstream.slates.slate_request import Step

if TYPE_CHECKING:
    from slipstream.chassis.tracing import RecordedSpan

log = get_logger(__name__)

STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
# A part that fails for each request is logged once in this time.
LOG_EVERY_S = 30.0


def _recorded_span() -> "RecordedSpan | None":
    """The span of the request that is being handled; None where it is not traced."""
    rid = request_id.get()
    return rid.recorded if type(rid) is TracedId else None


class ServingMetrics:
    """The metrics of one app, on its registry. Labels never hold the id of a visitor or an item."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._logged: dict[str, float] = {}
        self.answers = Counter(
            "slipstream_recommendations_total",
            "Answers, by the step that gave them",
            ["step"],
            registry=registry,
        )
        self.kept_lists = Counter(
            "slipstream_kept_lists_total",
            "Lists of the model that were kept from an earlier request",
            registry=registry,
        )
        self.degraded = Counter(
            "slipstream_recommendations_degraded_total",
            "Answers made without a part that was missing or failed",
            ["missing"],
            registry=registry,
        )
        self.model = Gauge(
            "slipstream_model_info", "1 for the model in service", ["version"], registry=registry
        )
        self.model_loaded_at = Gauge(
            "slipstream_model_loaded_timestamp_seconds",
            "Time at which the model came into service",
            registry=registry,
        )
        self.model_swaps = Counter(
            "slipstream_model_swaps_total",
            "Attempts to take another model into service",
            ["outcome"],
            registry=registry,
        )
        self.variant_model = Gauge(
            "slipstream_variant_model_info",
            "1 for each model that a variant of an experiment names, and its version",
            ["model", "version"],
            registry=registry,
        )
        self.substituted = Counter(
            "slipstream_substituted_slates_total",
            "Slates that the champion made, as a variant's model could not",
            ["why"],
            registry=registry,
        )
        self.shadows = Counter(
            "slipstream_shadow_slates_total",
            "Slates of shadow variants that were logged, or dropped under load",
            ["outcome"],
            registry=registry,
        )
        self.catalog_items = Gauge(
            "slipstream_catalog_items",
            "Items in the catalogue that serving holds",
            registry=registry,
        )
        self.store_circuit_open = Gauge(
            "slipstream_online_store_circuit_open",
            "1 while requests are answered without asking the online store, since it is away",
            registry=registry,
        )
        self._stages = Histogram(
            "slipstream_recommendation_stage_seconds",
            "Time a stage took",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._children = {
            name: self._stages.labels(name)
            for name in ("features", *Step, "arrangement", "response")
        }
        self._answered: dict[str, Counter] = {step: self.answers.labels(step) for step in Step}

    def took(self, stage: str, began: float, seconds: float) -> None:
        """Count the time of a stage that began at `began`, by `time.perf_counter`."""
        self._children[stage].observe(seconds)
        if (span := _recorded_span()) is not None:
            span.part(stage, began, seconds)

    def unread(self, began: float) -> None:
        """Count an answer without the visitor, as the store did not answer since `began`."""
        self.degraded.labels("online_store").inc()
        if (span := _recorded_span()) is not None:
            span.part("features", began, perf_counter() - began, failed=True)

    def answered(self, step: str) -> None:
        self._answered[step].inc()
        if (span := _recorded_span()) is not None:
            span.note("slipstream.step", step)

    def failed(self, part: str, error: Exception) -> None:
        """Count an answer made without a part that failed, and log the first of many."""
        self.degraded.labels(part).inc()
        now = monotonic()
        if now - self._logged.get(part, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[part] = now
            log.error("a part failed; others answer", part=part, exc_info=error)

    def watch_slate_failures(self, failures: Callable[[], int]) -> None:
        """Export the number of slates that the producer could not deliver to the broker."""
        self._registry.register(_SlateFailures(failures))


class _SlateFailures(Collector):
    def __init__(self, failures: Callable[[], int]) -> None:
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        name, text = "slipstream_slate_failures", "Slates that did not reach the broker"
        yield CounterMetricFamily(name, text, value=self._failures())
