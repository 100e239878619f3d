"""What features measures of its own."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from slipstream.chassis.metrics import LATENCY_BUCKETS

# Accepted events that are later than this are counted under the longest of these that they are over
# (hours).
LATE_OVER_H: Final = (24, 6, 1)


class FeaturesMetrics:
    """The metrics of the materializer. One to a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.apply_seconds = Histogram(
            "slipstream_features_apply_seconds", "Time to fold a batch into the online store", buckets=LATENCY_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.lost_races = Counter(
            "slipstream_features_lost_races_total", "States read and folded again, since another writer was faster",
            registry=registry,
        )  # fmt: skip
        self.watermark = Gauge(
            "slipstream_features_watermark_seconds",
            "Newest event time applied, seconds since the epoch",
            registry=registry,
        )
        self.late = Counter(
            "slipstream_features_late_events_total", "Events taken so many hours after they happened", ["over_hours"],
            registry=registry,
        )  # fmt: skip
        self.rejected = Counter(
            "slipstream_features_rejected_total",
            "Records that became dead letters",
            ["code"],
            registry=registry,
        )
        self.repeats = Counter(
            "slipstream_features_repeats_total",
            "Interactions dropped since they were on the topic before",
            registry=registry,
        )
        self.links = Counter(
            "slipstream_features_links_total",
            "What became of links between a visitor and a user",
            ["outcome"],
            registry=registry,
        )
        self.erasures = Counter(
            "slipstream_features_erasures_total", "Users erased", registry=registry
        )
