"""Triggers of runs that no person asks for: time, new events, a changed catalogue, an alert.

New events are counted in the lake and not on the topic. A count reads the table's statistics in a
few milliseconds, however many events are new, where consuming the topic would decode every event a
third time; and the lake is what a run reads.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from services.training.records import LastRun
from services.training.repository import Repository
from services.training.runs import Runs
from services.training.settings import TrainingSection
from services.training.waiting_alert_repository import WaitingAlert, WaitingAlerts
from slipstream.broker.records import Batch
from slipstream.chassis.logging import carrying, get_logger
from slipstream.contracts.events import AlertEvent
from slipstream.contracts.rest import MOST_REASON, RunRequest
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import CATALOG, INTERACTIONS, SCHEMAS, Lake, LakeUnavailableError

log = get_logger(__name__)

_SCHEMA = pa.schema(
    [
        SCHEMAS[CATALOG].field(name)
        for name in ("entity", "entity_id", "topic_id", "partition", "offset")
    ]
)


class CatalogChanges:
    """Counts items that were added, changed or deleted.

    It reads only files of the lake that are new, and remembers its last answer.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._answer: tuple[tuple[int, int | None], int] | None = None

    def since(self, version: int | None) -> int:
        """The number of items with a record that is newer than this version of the catalogue.

        None counts every item that ever had a record. An item that was sent again counts, even
        unchanged. 0 for a version that the lake no longer has: changes since then can't be counted.
        """
        newest = self._lake.version(CATALOG)
        if newest is None:
            return 0
        question = (newest, version)
        if self._answer is None or self._answer[0] != question:
            self._answer = question, self._count(newest, version)
        return self._answer[1]

    def _count(self, newest: int, before: int | None) -> int:
        if before is None:
            return _items(
                pa.Table.from_batches(self._lake.scan(CATALOG, newest, _SCHEMA.names), _SCHEMA)
            )
        try:
            covered = self._lake.covered(CATALOG, before)
            rows = pa.Table.from_batches(
                self._lake.scan_since(CATALOG, newest, before, _SCHEMA.names), _SCHEMA
            )
        except LakeUnavailableError as error:
            log.info(
                "the catalogue's changes can't be counted", since_version=before, reason=str(error)
            )
            return 0
        return _items(_later(rows, covered))


def _later(rows: pa.Table, covered: Callable[[str], int]) -> pa.Table:
    """The rows that are not covered; files that were merged since have older rows, too."""
    sources = pc.binary_join_element_wise(
        rows["topic_id"], rows["partition"].cast(pa.string()), ":"
    )
    known = pc.unique(sources)
    last = pa.array([covered(source) for source in known.to_pylist()], pa.int64())
    return rows.filter(
        pc.greater(rows["offset"], last.take(pc.index_in(sources, known).combine_chunks()))
    )


def _items(rows: pa.Table) -> int:
    return int(
        pc.count_distinct(rows["entity_id"].filter(pc.equal(rows["entity"], "item"))).as_py()
    )


MINUTE_MS = 60_000


class DueRun(NamedTuple):
    """A run that should start, with its trigger and the reason in words."""

    trigger: Literal["schedule", "events", "catalog", "alert"]
    reason: str


def cooling(last: LastRun | None, now: int, settings: TrainingSection) -> bool:
    """Whether a run is under way or queued, or ended less than the cooldown before `now` (ms).

    An end that lies further ahead than the cooldown is of a clock that was set back since, or of
    another machine's. Nothing would start for as long as that clock was ahead, so it is over.
    """
    if last is None:
        return False
    return (
        last.finished_at is None
        or abs(now - last.finished_at) < settings.cooldown_minutes * MINUTE_MS
    )


class LakeState(NamedTuple):
    """The lake's interactions now: their number, and the version of their table."""

    rows: int
    version: int | None


def due(
    last: LastRun | None,
    lake: LakeState,
    changed: Callable[[int | None], int],
    started_at: int,
    now: int,
    settings: TrainingSection,
) -> DueRun | None:
    """The run that time, new events or a changed catalogue call for; None without a reason.

    The schedule counts from the end of the last run, of whatever trigger, or from the start of the
    service. The catalogue alone starts no first run.

    Args:
        last: The newest run, None before any.
        changed: Number of items that have changed since a version of the catalogue.
        started_at: When the service started (ms).
        now: The present time (ms).
    """
    if last is not None and last.finished_at is None:
        return None
    rows, new = lake.rows, _new_rows(last, lake)
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
    idle = abs(now - (last.finished_at if last and last.finished_at is not None else started_at))
    if settings.schedule_minutes and rows and idle >= settings.schedule_minutes * MINUTE_MS:
        return DueRun("schedule", f"{idle // MINUTE_MS:,} minutes since the last run")
    return None


def _new_rows(last: LastRun | None, lake: LakeState) -> int:
    """Interactions that the last run has not seen.

    Erasures may have removed more rows than arrived. In a recreated lake all rows are new, and its
    versions begin again.
    """
    if last is None or last.lake_rows is None:
        return lake.rows
    if (lake.version or 0) < (last.lake_version or 0):
        return lake.rows
    return max(0, lake.rows - last.lake_rows)


def overdue(
    waiting: Sequence[WaitingAlert], last: LastRun | None, now: int, settings: TrainingSection
) -> DueRun | None:
    """The run that waiting alerts call for; None without a reason.

    It may start once no run is under way and the cooldown is over. Alerts that came before the last
    run was queued have had theirs. A run that takes up a killed one's work does not count, since it
    may read the same data.
    """
    unmet = [alert for alert in waiting if last is None or alert.after_run >= last.number]
    if not unmet or cooling(last, now, settings):
        return None
    others = f" (and {len(unmet) - 1} more)" if len(unmet) > 1 else ""
    return DueRun("alert", f"{unmet[0].rule}: {unmet[0].summary}{others}")


def repeated(
    shift: WaitingAlert, last: LastRun | None, now: int, settings: TrainingSection
) -> DueRun | None:
    """The run that an open alert on a shift calls for once more; None without a reason.

    The gate refused the last one, and by now twice as much time has passed since the onset: twice
    the questions, and more to learn from.
    """
    if shift.onset is None or last is None or last.unanswered != shift.onset:
        return None
    judged_after = last.created_at - shift.onset
    # Of two machines' clocks, that of the onset may be ahead.
    if judged_after <= 0 or now - shift.onset < 2 * judged_after or cooling(last, now, settings):
        return None
    return DueRun(
        "alert", f"{shift.rule}: {shift.summary}; the last run was refused, on half of the time"
    )


class Triggers:
    """Queues the runs that are due, by the clock, the lake and alerts."""

    def __init__(
        self,
        runs: Runs,
        repository: Repository,
        alerts: WaitingAlerts,
        lake: Lake,
        settings: TrainingSection,
    ) -> None:
        self._runs, self._repository, self._alerts = runs, repository, alerts
        self._lake, self._settings = lake, settings
        self._catalog = CatalogChanges(lake)

    def watch(self, stop: threading.Event) -> None:
        """Check every `check_seconds` until `stop` is set."""
        started_at = now_ms()
        while not stop.wait(self._settings.check_seconds):
            self.check(started_at)

    def check(self, started_at: int) -> None:
        """Queue the run that is due now; `started_at` is when the service started (ms)."""
        self._serve_alerts()
        last, lake = self._repository.last_run(), self._lake
        state = LakeState(lake.count(INTERACTIONS), lake.version(INTERACTIONS))
        self._start(due(last, state, self._catalog.since, started_at, now_ms(), self._settings))

    def on_alerts(self, batch: Batch) -> None:
        """Handle a batch of alerts.v1.

        An alert that asks for retraining waits until a run may start, unless it closes before. An
        alert that is read twice starts one run. One that holds promotions does so until it closes.
        """
        for message in batch.messages:
            alert: AlertEvent = message.record
            if alert.state == "closed":
                self._alerts.close(alert.rule)
            elif alert.hold:
                self._alerts.add(alert, message.request_id, 0)
            elif alert.action == "retrain":
                last = self._repository.last_run()
                self._alerts.add(alert, message.request_id, last.number if last else 0)
                if cooling(last, now_ms(), self._settings):
                    log.info(
                        "alert waits: a run is under way, or ended too lately",
                        rule=alert.rule,
                        alert_id=alert.alert_id,
                    )
            self._serve_alerts()

    def _serve_alerts(self) -> None:
        """Queue a run when alerts wait and it may start; drop the alerts that have had theirs.

        When none waits, a shift may call for its run once more.
        """
        waiting = self._alerts.all()
        if not waiting:
            if (shift := self._alerts.shift()) is not None:
                with carrying(shift.request_id):
                    last = self._repository.last_run()
                    self._start(repeated(shift, last, now_ms(), self._settings))
            return
        with carrying(waiting[0].request_id):
            self._start(overdue(waiting, self._repository.last_run(), now_ms(), self._settings))
        if (last := self._repository.last_run()) is not None:
            self._alerts.met_by(last.number)

    def _start(self, run: DueRun | None) -> None:
        if run is None:
            return
        request = RunRequest(
            trigger=run.trigger,
            reason=run.reason[:MOST_REASON],
            profile=self._settings.schedule_profile,
        )
        self._runs.request_unless_busy(request)
