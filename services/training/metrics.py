"""Prometheus metrics of the training service, in addition to those of every service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class TrainingMetrics:
    """The service's metrics, on the registry of its app."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Counter(
            "slipstream_training_runs_total",
            "Runs that ended, by state",
            ["state"],
            registry=registry,
        )
        self.decisions = Counter(
            "slipstream_training_decisions_total",
            "The gate's decisions",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "slipstream_training_run_seconds",
            "How long runs took, by the state they ended in",
            ["state"],
            buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200),
            registry=registry,
        )
        self.running = Gauge(
            "slipstream_training_running", "1 while a run is under way", registry=registry
        )
        self._champion = Gauge(
            "slipstream_training_champion_info",
            "1, with the champion's version",
            ["version"],
            registry=registry,
        )
        self.scripted_share = Gauge(
            "slipstream_training_scripted_share",
            "Share of the events that the last run left out, as those of scripted visitors",
            registry=registry,
        )
        self.champion_deleted_at = Gauge(
            "slipstream_training_champion_deleted_at_seconds",
            "When the champion is deleted after an erasure, with nothing to replace it by now "
            "(Unix time); 0 for never",
            registry=registry,
        )

    def champion(self, version: str | None) -> None:
        """Set the champion's version, in place of the one before; None for no champion."""
        self._champion.clear()
        if version is not None:
            self._champion.labels(version).set(1)
