"""Metrics of features, in addition to those that the chassis keeps for every service."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from slipstream.chassis.metrics import LATENCY_BUCKETS

# Lateness classes in hours: an accepted event is counted under the longest that it exceeds.
LATE_OVER_H: Final = (24, 6, 1)


class FeaturesMetrics:
    """The metrics of the materializer; one instance per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.apply_seconds = Histogram(
            "slipstream_features_apply_seconds",
            "Time to fold a batch into the online store",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.lost_races = Counter(
            "slipstream_features_lost_races_total",
            "States read and folded again, since another writer was faster",
            registry=registry,
        )
        self.watermark = Gauge(
            "slipstream_features_watermark_seconds",
            "Newest event time applied, seconds since the epoch",
            registry=registry,
        )
        self.late = Counter(
            "slipstream_features_late_events_total",
            "Events that arrived more than over_hours after they happened, and counted",
            ["over_hours"],
            registry=registry,
        )
        self.rejected = Counter(
            "slipstream_features_rejected_total",
            "Records that became dead letters",
            ["code"],
            registry=registry,
        )
        self.repeats = Counter(
            "slipstream_features_repeats_total",
            "Interactions dropped as second copies of events",
            registry=registry,
        )
        self.of_erased = Counter(
            "slipstream_features_late_records_of_erased_total",
            "Records left out since they were made before their visitor's erasure",
            registry=registry,
        )
        self.links = Counter(
            "slipstream_features_links_total",
            "Links between a visitor and a user, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.erasures = Counter(
            "slipstream_features_erasures_total", "Users erased", registry=registry
        )
        self.rollbacks = Counter(
            "slipstream_features_rollbacks_total",
            "Times that Redis lacked writes that it had, so that records were read again",
            registry=registry,
        )
        self.unconfirmed_commits = Counter(
            "slipstream_features_unconfirmed_commits_total",
            "Commits of offsets without Redis' confirmation in time that effects are durable",
            registry=registry,
        )


class RedisMetrics:
    """The memory of Redis, as each replica sees it; one instance per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.memory = Gauge(
            "slipstream_redis_memory_bytes",
            "Memory that Redis uses, of a cluster its fullest node",
            registry=registry,
        )
        self.memory_limit = Gauge(
            "slipstream_redis_memory_limit_bytes",
            "maxmemory of Redis; 0: no limit",
            registry=registry,
        )
