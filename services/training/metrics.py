"""What Prometheus reads of the training service, besides what every service has."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class TrainingMetrics:
    """Made once an app, on its registry."""

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

    def champion(self, version: str) -> None:
        """There is one champion at a time."""
        self._champion.clear()
        self._champion.labels(version).set(1)
