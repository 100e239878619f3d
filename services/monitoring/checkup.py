"""The rounds of checks: ask, compare, judge, keep, announce.

The latest snapshot is exported as Prometheus metrics. Values are read at the scrape, so that a
version or feature that is gone leaves no stale series. When checks stop, the figures end, too, and
only the time of the last check remains.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.monitoring import snapshot as state
from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import (
    Alert,
    Hysteresis,
    Rule,
    Streak,
    Transition,
    step,
    transition,
)
from services.monitoring.drift_watch import DriftWatch
from services.monitoring.probes import Probes
from services.monitoring.quality import Bucket, Counts
from services.monitoring.repository import RecordLog
from services.monitoring.runbook import page
from services.monitoring.settings import MonitoringSection
from services.monitoring.snapshot import Snapshot
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import AlertEvent, ModelEventType
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.times import DAY_MS, HOUR_MS

log = get_logger(__name__)

EXPIRE_EVERY_MS = 300_000
# Rounds that may be missing before figures count as stale, and the least time that they count for:
# a round waits for services that do not answer.
MISSED_ROUNDS = 4
LEAST_FRESH_S = 60.0
# Rounds that services which start with this one are waited for, and the time between two looks.
STARTING_ROUNDS = 3
STARTING_PAUSE_S = 1.0


class Checkup:
    """The worker that judges the platform every `check_interval_s`.

    `latest` is the newest snapshot, None before the first; `open_alerts` and `rule_pages` belong to
    it.

    Args:
        records: Repository of answers and watermarks.
        counts: Returns lists and what followed from them, of the buckets between two times (ms).
        probes: Questions to the other services.
        rules: Returns the rules that judge a snapshot, as they are now. The alert of a rule that
            is gone closes, and its streak ends.
        announce: Publishes alerts. When it raises `BrokerUnavailableError`, the next round
            publishes them again: an event may arrive twice (same `alert_id` and `state`) but is
            never lost.
        clock: Returns the time in ms.
        returned: Returns the canaries that were stopped by their guards since a time (ms).
        rejections: Returns the rejected records of the last hour and all of them, None where they
            are not known.
    """

    def __init__(
        self,
        records: RecordLog,
        counts: Callable[[int, int], dict[Bucket, Counts]],
        drift: DriftWatch,
        book: AlertBook,
        probes: Probes,
        rules: Callable[[], Sequence[Rule]],
        settings: MonitoringSection,
        announce: Callable[[Sequence[AlertEvent]], None],
        clock: Callable[[], int],
        returned: Callable[[int], Sequence[Experiment]] = lambda _since: (),
        rejections: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        self._records, self._counts, self._drift, self._book = records, counts, drift, book
        self._probes, self._rules = probes, rules
        self._settings, self._announce, self._clock = settings, announce, clock
        self._limits = Hysteresis(settings.failing_checks_to_open, settings.passing_checks_to_close)
        self._returned, self._rejections = returned, rejections
        self._expired_at = 0
        self._began_at = clock()
        self.latest: Snapshot | None = None
        self.open_alerts: list[Alert] = []
        self.rule_pages: dict[str, str] = {}

    @property
    def fresh_for_s(self) -> float:
        """The age (s) from which the figures of a round are stale."""
        return max(LEAST_FRESH_S, MISSED_ROUNDS * self._settings.check_interval_s)

    @property
    def checked_at(self) -> int:
        """The time (ms) of the newest round; before the first, that of the start."""
        return self.latest.checked_at if self.latest else self._began_at

    def fresh(self) -> Snapshot | None:
        """The newest snapshot; None before the first, and when it is stale."""
        age_s = (self._clock() - self.checked_at) / 1000
        return self.latest if age_s <= self.fresh_for_s else None

    def run(self, stop: threading.Event) -> None:
        """Check in rounds until `stop` is set. The first one waits for services that start, too."""
        self._wait_for_services(stop)
        while not stop.is_set():
            self.run_once()
            stop.wait(self._settings.check_interval_s)

    def _wait_for_services(self, stop: threading.Event) -> None:
        """Wait until all services have been ready, for `STARTING_ROUNDS` at most."""
        interval_s = self._settings.check_interval_s
        until_ms = self._began_at + STARTING_ROUNDS * interval_s * 1000
        while not stop.is_set() and self._clock() < until_ms:
            services, _, _ = self._probes.ask()
            if all(service.state in ("ready", "asleep") for service in services):
                return
            stop.wait(min(STARTING_PAUSE_S, interval_s))

    def run_once(self) -> Snapshot:
        """Do one round of checks."""
        now_ms = self._clock()
        snapshot = self._look(now_ms)
        self._judge(snapshot)
        self._tell()
        if now_ms - self._expired_at >= EXPIRE_EVERY_MS:
            self._expire(now_ms)
        self.latest = snapshot
        return snapshot

    def _look(self, now_ms: int) -> Snapshot:
        services, training, features = self._probes.ask()
        self._records.note_starts(services)
        marks = self._records.watermarks()
        shifts, faults, trend = self._drift.look(now_ms, marks)
        since, known = state.counted_since(self._settings, now_ms), self._drift.caught_up()
        counts, answered = (
            read(since, now_ms + 1) for read in (self._counts, self._records.answered)
        )
        return Snapshot(
            checked_at=now_ms,
            services=services,
            training=training,
            features=features,
            freshness=state.freshness(marks),
            drift=state.drift_report(answered, (shifts, faults), self._settings, now_ms),
            trend=trend,
            versions=state.versions(counts, self._settings, now_ms),
            returned=state.returned_canaries(self._returned(now_ms - DAY_MS)),
            answer_latency=state.answer_latency(self._records.latencies(now_ms - state.LATENCY_MS)),
            answered=answered if known else None,
            counts=counts,
            had_champion=bool(self._records.model_events(1, [ModelEventType.PROMOTED])),
            rejections=self._rejections(),
        )

    def _judge(self, snapshot: Snapshot) -> None:
        """Open, renew and close alerts."""
        streaks, opened = self._book.standing()
        changed: dict[str, Alert] = {}
        rules = self._rules()
        for rule in rules:
            if not rule.judgeable(snapshot):
                continue
            streak, alert = streaks.get(rule.name, Streak()), opened.get(rule.name)
            streaks[rule.name], after = step(
                rule,
                streak,
                alert,
                rule.check(snapshot),
                self._limits.for_rule(rule, self._settings.check_interval_s),
                snapshot.checked_at,
            )
            if after is not None:
                changed[rule.name] = after
        gone = (streaks.keys() | opened.keys()) - {rule.name for rule in rules}
        streaks |= dict.fromkeys(gone, Streak())
        changed |= {name: opened[name].closed(snapshot.checked_at) for name in gone & opened.keys()}
        transitions: list[tuple[Alert, Transition]] = []
        for name, after in changed.items():
            if passed := transition(opened.get(name), after):
                transitions.append((after, passed))
                log.warning("alert", rule=name, state=passed, summary=after.summary)
        self._book.save(streaks, list(changed.values()), transitions)
        self.rule_pages = {rule.name: page(rule.runbook) for rule in rules}
        self.open_alerts = [
            alert for alert in (opened | changed).values() if alert.closed_at is None
        ]

    def _tell(self) -> None:
        alerts = self._book.unannounced()
        if not alerts:
            return
        try:
            self._announce([alert.event() for alert in alerts])
        except BrokerUnavailableError as error:
            log.warning("alerts wait for the broker", alerts=len(alerts), reason=str(error))
            return
        self._book.mark_announced(alerts)

    def _expire(self, now_ms: int) -> None:
        self._expired_at = now_ms
        now_ms = self._records.agreed_time(now_ms)
        before = now_ms - self._settings.slate_retention_h * HOUR_MS
        self._records.expire(
            shadows_before=before,
            answers_before=min(before, state.counted_since(self._settings, now_ms)),
            starts_before=now_ms - self._settings.report_retention_d * DAY_MS,
        )
        kept_ms = self._settings.slate_retention_h * HOUR_MS + self._drift.shift_ms
        self._drift.windows.expire(
            before=now_ms - self._settings.report_retention_d * DAY_MS,
            samples_before=now_ms - kept_ms,
        )


class SnapshotCollector(Collector):
    """A collector that exposes the time of the last check, and its figures while they are fresh."""

    def __init__(self, checkup: Checkup, registry: CollectorRegistry) -> None:
        self._checkup = checkup
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "slipstream_last_check_timestamp_seconds",
            "Time of the last round of checks; before the first, of the service's start",
            value=self._checkup.checked_at / 1000,
        )
        yield GaugeMetricFamily(
            "slipstream_last_check_limit_seconds",
            "Age of the last round from which its figures are stale, and no longer exported",
            value=self._checkup.fresh_for_s,
        )
        snapshot = self._checkup.fresh()
        if snapshot is None:
            return
        # Not `service`: Prometheus puts a label of that name on every target.
        up = GaugeMetricFamily(
            "slipstream_service_up", "1 when the service says that it is ready", labels=["name"]
        )
        asleep = GaugeMetricFamily(
            "slipstream_service_asleep",
            "1 while the service has no instance, as the setting may_sleep allows",
            labels=["name"],
        )
        for service in snapshot.services:
            up.add_metric([service.name], float(service.state == "ready"))
            asleep.add_metric([service.name], float(service.state == "asleep"))
        yield up
        yield asleep

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
            "Population stability index against a window at a like moment",
            labels=["feature"],
        )
        for feature in snapshot.drift.shifts.features:
            if feature.psi is not None and feature.level != "unknown":
                psi.add_metric([feature.feature], feature.psi)
        yield psi

        lists = GaugeMetricFamily(
            "slipstream_shown_lists",
            "Coverage, gini and novelty of the lists shown in the newest window",
            labels=["figure"],
        )
        for name, figure in snapshot.drift.shifts.figures.items():
            lists.add_metric([name], figure)
        yield lists

        answered = GaugeMetricFamily(
            "slipstream_answered_by_ratio",
            "Recent slates by answering step",
            labels=["answered_by"],
        )
        for name, share in snapshot.drift.answered_by.recent.items():
            answered.add_metric([name], share)
        yield answered

        alerts = GaugeMetricFamily(
            "slipstream_alerts_open", "Open alerts, by rule", labels=["rule", "severity", "page"]
        )
        severity_of = {alert.rule: alert.severity for alert in self._checkup.open_alerts}
        for rule, name in self._checkup.rule_pages.items():
            for severity in ("warning", "critical"):
                alerts.add_metric([rule, severity, name], float(severity_of.get(rule) == severity))
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
