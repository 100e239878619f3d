"""The latest snapshot as Prometheus metrics.

Values are read at the scrape, so that a version or feature that is gone leaves no stale series.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.monitoring.checkup import Checkup


class SnapshotCollector(Collector):
    """A collector that exposes `checkup.latest`; nothing before the first round."""

    def __init__(self, checkup: Checkup, rules: Iterable[str], registry: CollectorRegistry) -> None:
        self._checkup, self._rules = checkup, tuple(rules)
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        snapshot = self._checkup.latest
        if snapshot is None:
            return
        # Not `service`: Prometheus puts a label of that name on every target.
        up = GaugeMetricFamily(
            "slipstream_service_up", "1 when the service says that it is ready", labels=["name"]
        )
        for service in snapshot.services:
            up.add_metric([service.name], float(service.state == "ready"))
        yield up

        ctr = GaugeMetricFamily(
            "slipstream_click_through_ratio",
            "Slates clicked, of slates shown",
            labels=["model_version"],
        )
        cvr = GaugeMetricFamily(
            "slipstream_conversion_ratio",
            "Slates converted, of slates shown",
            labels=["model_version"],
        )
        for version in snapshot.versions:
            for family, rate in ((ctr, version.click_through), (cvr, version.conversion)):
                if rate.value is not None:
                    family.add_metric([version.model_version or ""], rate.value)
        yield ctr
        yield cvr

        psi = GaugeMetricFamily(
            "slipstream_feature_psi",
            "Population stability index since training",
            labels=["feature"],
        )
        for feature in snapshot.drift.features:
            if feature.psi is not None and feature.level != "unknown":
                psi.add_metric([feature.feature], feature.psi)
        yield psi

        answered = GaugeMetricFamily(
            "slipstream_answered_by_ratio",
            "Recent slates by answering step",
            labels=["answered_by"],
        )
        for step, share in snapshot.drift.answered_by.recent.items():
            answered.add_metric([step], share)
        yield answered

        alerts = GaugeMetricFamily(
            "slipstream_alerts_open", "Open alerts, by rule", labels=["rule", "severity"]
        )
        severity_of = {alert.rule: alert.severity for alert in self._checkup.open_alerts}
        for rule in self._rules:
            for severity in ("warning", "critical"):
                alerts.add_metric([rule, severity], float(severity_of.get(rule) == severity))
        yield alerts

        if snapshot.features is not None:
            yield GaugeMetricFamily(
                "slipstream_features_lag_records",
                "Records that features is behind",
                value=snapshot.features.lag,
            )
        if snapshot.training.champion is not None:
            age_s = (snapshot.checked_at - snapshot.training.champion.model.created_at) / 1000
            yield GaugeMetricFamily(
                "slipstream_champion_age_seconds", "Age of the model in service", value=age_s
            )
