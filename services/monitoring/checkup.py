"""The rounds of checks: ask, compare, judge, keep, announce."""

import threading
from collections.abc import Callable, Sequence

from services.monitoring import snapshot as state
from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Rule
from services.monitoring.alerting import Alert, Hysteresis, Streak, step
from services.monitoring.probes import Probes
from services.monitoring.repository import SlateLog
from services.monitoring.settings import MonitoringSection
from services.monitoring.snapshot import Snapshot
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import AlertEvent
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.times import DAY_MS, HOUR_MS

log = get_logger(__name__)

EXPIRE_EVERY_MS = 300_000


class Checkup:
    """The worker that judges the platform every `check_interval_s`.

    `latest` is the newest snapshot, None before the first; `open_alerts` belongs to it.

    Args:
        slates: Repository of slates and counts.
        book: Repository of alerts.
        probes: Questions to the other services.
        rules: Rules that judge a snapshot.
        settings: Intervals and thresholds.
        announce: Publishes alerts. When it raises `BrokerUnavailableError`, the next round
            publishes them again: an event may arrive twice (same `alert_id` and `state`) but is
            never lost.
        clock: Returns the time in ms.
        returned: Returns the canaries that were stopped by their guards since a time (ms).
        notify: Takes the open alerts and those that a round closed, with the time (ms), each round.
    """

    def __init__(
        self,
        slates: SlateLog,
        book: AlertBook,
        probes: Probes,
        rules: Sequence[Rule],
        settings: MonitoringSection,
        announce: Callable[[Sequence[AlertEvent]], None],
        clock: Callable[[], int],
        returned: Callable[[int], Sequence[Experiment]] = lambda _since: (),
        notify: Callable[[Sequence[Alert], int], None] = lambda _alerts, _now_ms: None,
    ) -> None:
        self._slates, self._book, self._probes, self._rules = slates, book, probes, rules
        self._settings, self._announce, self._clock = settings, announce, clock
        self._limits = Hysteresis(settings.failing_checks_to_open, settings.passing_checks_to_close)
        self._returned, self._notify = returned, notify
        self._expired_at = 0
        self.latest: Snapshot | None = None
        self.open_alerts: list[Alert] = []

    def run(self, stop: threading.Event) -> None:
        """Check in rounds until `stop` is set."""
        while not stop.is_set():
            self.run_once()
            stop.wait(self._settings.check_interval_s)

    def run_once(self) -> Snapshot:
        """Do one round of checks."""
        now_ms = self._clock()
        snapshot = self._look(now_ms)
        closed = self._judge(snapshot)
        self._tell()
        self._notify([*self.open_alerts, *closed], now_ms)
        if now_ms - self._expired_at >= EXPIRE_EVERY_MS:
            self._expire(now_ms)
        self.latest = snapshot
        return snapshot

    def _look(self, now_ms: int) -> Snapshot:
        services, training, features = self._probes.ask()
        return Snapshot(
            checked_at=now_ms,
            services=services,
            training=training,
            features=features,
            freshness=state.freshness(self._slates.watermarks()),
            drift=state.drift_report(self._slates, training, self._settings, now_ms),
            trend=state.quality_trend(self._slates, self._settings, now_ms),
            versions=state.versions(self._slates, self._settings, now_ms),
            returned=state.returned_canaries(self._returned(now_ms - DAY_MS)),
        )

    def _judge(self, snapshot: Snapshot) -> list[Alert]:
        """Open, renew and close alerts; returns those that were closed."""
        streaks, opened = self._book.standing()
        changed: dict[str, Alert] = {}
        for rule in self._rules:
            if not rule.judgeable(snapshot):
                continue
            streak, alert = streaks.get(rule.name, Streak()), opened.get(rule.name)
            streaks[rule.name], after = step(
                rule.name,
                rule.action,
                streak,
                alert,
                rule.check(snapshot),
                self._limits,
                snapshot.checked_at,
            )
            if after is not None:
                changed[rule.name] = after
                if alert is None or after.closed_at is not None:
                    log.warning(
                        "alert", rule=rule.name, state=after.event().state, summary=after.summary
                    )
        self._book.save(streaks, list(changed.values()))
        self.open_alerts = [
            alert for alert in (opened | changed).values() if alert.closed_at is None
        ]
        return [alert for alert in changed.values() if alert.closed_at is not None]

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
        now_ms = self._slates.agreed_time(now_ms)
        self._slates.expire(
            slates_before=now_ms - self._settings.slate_retention_h * HOUR_MS,
            pending_before=now_ms - self._settings.pending_retention_s * 1000,
            counts_before=now_ms - self._settings.report_retention_d * DAY_MS,
        )
