"""What starts a run that nobody asked for: time, new events in the lake, a changed catalogue, an
alert.

New events are counted in the lake and not on the topic: a count is one look at the table's
statistics (a few milliseconds, whatever has happened since), where consuming the topic would decode
every event a third time; and the lake is what a run reads.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from services.training.alert_repository import WaitingAlert, WaitingAlerts
from services.training.catalog_changes import CatalogChanges
from services.training.repository import LastRun, Repository
from services.training.runs import Runs
from services.training.settings import TrainingSection
from slipstream.broker.batch import Batch
from slipstream.chassis.logging import carrying, get_logger
from slipstream.contracts.events import AlertEvent
from slipstream.contracts.rest import RunRequest
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import INTERACTIONS, Lake

log = get_logger(__name__)

MINUTE_MS = 60_000


class DueRun(NamedTuple):
    """A run should start, and why."""

    trigger: Literal["schedule", "events", "catalog", "alert"]
    reason: str


def cooling(last: LastRun | None, now: int, settings: TrainingSection) -> bool:
    """Whether a run is under way or waiting, or ended less than the cooldown ago."""
    if last is None:
        return False
    return (
        last.finished_at is None or now - last.finished_at < settings.cooldown_minutes * MINUTE_MS
    )


def due(
    last: LastRun | None,
    rows: int,
    changed: Callable[[int | None], int],
    started_at: int,
    now: int,
    settings: TrainingSection,
) -> DueRun | None:
    """Whether time, new events or a changed catalogue call for a run.

    `rows` is how many interactions the lake has now, `changed` says how many items have changed
    since a version of the catalogue, `started_at` is when the service started. Times in ms. The
    schedule counts from the end of the last run, of whatever trigger, or from the start of the
    service. The catalogue alone starts no first run.
    """
    if last is not None and last.finished_at is None:
        return None
    seen = (last.lake_rows or 0) if last else 0
    new = rows - seen if rows >= seen else rows  # fewer than before: the lake was made anew
    if settings.new_events and new >= settings.new_events and not cooling(last, now, settings):
        return DueRun(
            "events", f"{new:,} new interactions since the last run (limit {settings.new_events:,})"
        )
    if settings.catalog_changes and last is not None and rows and not cooling(last, now, settings):
        items = changed(last.catalog_version)
        if items >= settings.catalog_changes:
            return DueRun(
                "catalog",
                f"{items:,} items changed since the last run (limit {settings.catalog_changes:,})",
            )
    idle = now - (last.finished_at if last and last.finished_at is not None else started_at)
    if settings.schedule_minutes and rows and idle >= settings.schedule_minutes * MINUTE_MS:
        return DueRun("schedule", f"{idle // MINUTE_MS:,} minutes since the last run")
    return None


def overdue(
    waiting: Sequence[WaitingAlert], last: LastRun | None, now: int, settings: TrainingSection
) -> DueRun | None:
    """Whether alerts that wait call for a run: once none is under way and the cooldown is over, and
    not when the last run was asked for after they had opened.
    """
    unmet = [alert for alert in waiting if last is None or alert.opened_at > last.created_at]
    if not unmet or cooling(last, now, settings):
        return None
    others = f" (and {len(unmet) - 1} more)" if len(unmet) > 1 else ""
    return DueRun("alert", f"{unmet[0].rule}: {unmet[0].summary}{others}")


class Triggers:
    """Looks at the clock and the lake, and listens to alerts; what is due goes to the queue."""

    def __init__(
        self,
        runs: Runs,
        repository: Repository,
        alerts: WaitingAlerts,
        lake: Lake,
        settings: TrainingSection,
    ) -> None:
        self._runs, self._repository, self._alerts, self._lake, self._settings = (
            runs,
            repository,
            alerts,
            lake,
            settings,
        )
        self._catalog = CatalogChanges(lake)

    def watch(self, stop: threading.Event) -> None:
        """Look every `check_seconds` until `stop` is set."""
        started_at = now_ms()
        while not stop.wait(self._settings.check_seconds):
            self.look(started_at)

    def look(self, started_at: int) -> None:
        """Start what is due now. `started_at` is when the service started."""
        self._heed()
        last, rows = self._repository.last_run(), self._lake.count(INTERACTIONS)
        self._start(due(last, rows, self._catalog.since, started_at, now_ms(), self._settings))

    def on_alerts(self, batch: Batch) -> None:
        """Handle a batch of alerts.v1. An alert that asks for retraining waits until a run may
        start, unless it closes before; hearing of one twice starts one run.
        """
        for message in batch.messages:
            alert: AlertEvent = message.record
            if alert.state == "closed":
                self._alerts.close(alert.rule)
            elif alert.action == "retrain":
                self._alerts.add(alert, message.request_id)
                if cooling(self._repository.last_run(), now_ms(), self._settings):
                    log.info(
                        "alert waits: a run is under way, or ended too lately",
                        rule=alert.rule,
                        alert_id=alert.alert_id,
                    )
            self._heed()

    def _heed(self) -> None:
        """Start a run when alerts wait and one may start; forget those that have had theirs."""
        waiting = self._alerts.all()
        if not waiting:
            return
        with carrying(waiting[0].request_id):
            self._start(overdue(waiting, self._repository.last_run(), now_ms(), self._settings))
        if (last := self._repository.last_run()) is not None:
            self._alerts.met_by(last.created_at)

    def _start(self, found: DueRun | None) -> None:
        if found is None:
            return
        asked = RunRequest(
            trigger=found.trigger, reason=found.reason, profile=self._settings.schedule_profile
        )
        self._runs.request_unless_busy(asked)
