"""The timeline: alerts, training runs and changes of models, each with what it answers; what people
changed, and starts of services.

An alert asks for a run, a run makes a version of its own name, the gate promotes or refuses it, and
visitors click more or less since. Runs are read from training, all else is monitoring's own.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Acknowledgement, Alert
from services.monitoring.quality import BUCKET_MS, Bucket, Counts, RateInterval, grouped, row
from services.monitoring.repository import RecordLog, Start
from slipstream.chassis.client import Peer, PeerError
from slipstream.contracts.events import ModelEvent, ModelEventType, Severity
from slipstream.contracts.rest import AuditRecord, Run
from slipstream.stores.metadata import AuditLog

# Events of the timeline. A registration is a part of its run.
EVENTS: Final = (
    ModelEventType.PROMOTED,
    ModelEventType.REFUSED,
    ModelEventType.ROLLED_BACK,
    ModelEventType.ALIAS_SET,
    ModelEventType.ALIAS_REMOVED,
    ModelEventType.DELETED,
)
_NEW_CHAMPION: Final = (ModelEventType.PROMOTED, ModelEventType.ROLLED_BACK)
# Pages of newer runs that are passed over to reach a page of the timeline.
MOST_RUN_PAGES: Final = 5
_RUNS_ON_PAGE: Final = 100
# Alerts that are compared with the runs of a page.
MOST_ASKING: Final = 1_000
# Newest audit records that the timeline has.
MOST_AUDITED: Final = 500
# An acknowledgement is with its alert. Erasures may come by the thousand, and change no list.
_UNTOLD: Final = ("acknowledge", "erase_user", "ship_alert_rule")
# Newest starts that the timeline has; those within a minute of the first are one entry.
MOST_STARTS: Final = 500
_TOGETHER_MS: Final = 60_000
_ALERT, _AUDIT, _MODEL, _RUN = "alert:", "audit:", "model:", "run:"

DecidedBy = Literal["rule", "trigger", "gate", "request", "erasure", "unknown"]


class Position(NamedTuple):
    """The place of an entry: entries go by time (ms), then id, newest first."""

    at: int
    entry_id: str

    @classmethod
    def given(cls, at: int, entry_id: str) -> "Position":
        """The position in a request. Raises ValueError for one that no database can compare."""
        if not (0 <= at < 1 << 62 and entry_id.isprintable()):
            raise ValueError("not a position")
        return cls(at, entry_id)


class ClickThroughChange(BaseModel):
    """Click-through of the champion before a change and of the one after it, within `window_ms` of
    it. A version of '' stands for slates that no model answered.
    """

    window_ms: int
    version_before: str
    before: RateInterval
    version_after: str
    after: RateInterval


class AlertPart(BaseModel):
    """The alert of an entry: `action` is what it asked of training."""

    alert_id: str
    rule: str
    severity: Severity
    action: str
    closed_at: int | None
    evidence: dict[str, object]
    acknowledged: Acknowledgement | None = None


class TimelineEntry(BaseModel):
    """An alert, a run, a change of a model, or what a person did: `audit`; or starts of services,
    by a person or after a crash.

    `because` names the entries that led to it, which are older. A decision by `request` came
    over REST: training's `GET /v1/audit` says by which key.
    """

    entry_id: str
    at: int = Field(description="when it opened, was requested or happened, ms")
    kind: Literal["alert", "run", "model", "audit", "start"]
    summary: str
    decided_by: DecidedBy
    because: list[str] = Field(default_factory=list)
    alert: AlertPart | None = None
    run: Run | None = None
    model: ModelEvent | None = None
    audit: AuditRecord | None = None
    click_through: ClickThroughChange | None = Field(
        None, description="where the champion has changed"
    )

    @property
    def position(self) -> Position:
        return Position(self.at, self.entry_id)


class MissingPart(BaseModel):
    """A part of the timeline that could not be had, and why."""

    part: Literal["runs", "audit"]
    reason: str


class TimelinePage(BaseModel):
    """Entries, newest first; `next_cursor` is null on the last page."""

    items: list[TimelineEntry]
    next_cursor: str | None
    missing: list[MissingPart]


def alert_entry(alert: Alert, acknowledged: Acknowledgement | None = None) -> TimelineEntry:
    """The entry of an alert, and who said that it is known."""
    return TimelineEntry(
        entry_id=_ALERT + alert.alert_id,
        at=alert.opened_at,
        kind="alert",
        summary=alert.summary,
        decided_by="rule",
        alert=AlertPart(
            alert_id=alert.alert_id,
            rule=alert.rule,
            severity=alert.severity,
            action=alert.action,
            closed_at=alert.closed_at,
            evidence=dict(alert.evidence),
            acknowledged=acknowledged,
        ),
    )


def run_entry(run: Run, before: Run | None, asking: Sequence[Alert]) -> TimelineEntry:
    """The entry of a run.

    A run answers the alerts that requested one since the run before it, unless they had closed, and
    the alert on a shift that it is judged since: as training does, whatever its trigger.

    Args:
        before: The run before it; None for the first one.
        asking: Alerts that ask for a run.
    """
    since = before.created_at if before else -1
    because = [
        _ALERT + alert.alert_id
        for alert in asking
        if (since < alert.opened_at or _is_of_shift(run, alert))
        and alert.opened_at <= run.created_at
        and (alert.closed_at is None or alert.closed_at > run.created_at)
    ]
    outcome = f", {run.decision}: {run.decision_reason}" if run.decision else ""
    return TimelineEntry(
        entry_id=_RUN + run.run_id,
        at=run.created_at,
        kind="run",
        summary=f"run {run.state}{outcome}" + (f": {run.error}" if run.error else ""),
        decided_by="request" if run.trigger == "request" else "trigger",
        because=because,
        run=run,
    )


def _is_of_shift(run: Run, alert: Alert) -> bool:
    return run.onset is not None and run.onset == alert.evidence.get("onset")


def model_entry(
    event: ModelEvent, decisions: Sequence[ModelEvent], change: ClickThroughChange | None = None
) -> TimelineEntry:
    """The entry of a model event.

    Args:
        decisions: The refusals and promotions of its version, oldest first. The first one is the
            gate's: it judges each version once, before a person can promote it.
        change: Click-through before and after, where the champion has changed.
    """
    by_gate = bool(decisions) and (event.event, event.timestamp) == (
        decisions[0].event,
        decisions[0].timestamp,
    )
    decided_by: DecidedBy = "gate" if by_gate else "request"
    if event.event is ModelEventType.DELETED:
        decided_by = "erasure"
    words = event.event.value.replace("_", " ")
    return TimelineEntry(
        entry_id=f"{_MODEL}{event.version}:{event.event.value}",
        at=event.timestamp,
        kind="model",
        summary=f"{event.version} {words}" + (f": {event.reason}" if event.reason else ""),
        decided_by=decided_by,
        because=[_RUN + event.version] if by_gate else [],
        model=event,
        click_through=change,
    )


def audit_entry(record: AuditRecord) -> TimelineEntry:
    """The entry of an audit record."""
    return TimelineEntry(
        entry_id=f"{_AUDIT}{record.number:012d}",
        at=record.at,
        kind="audit",
        summary=f"{record.action.replace('_', ' ')} {record.subject}, by {record.principal}",
        # Monitoring itself takes canaries back, by their guards.
        decided_by="rule" if record.principal == "monitoring" else "request",
        audit=record,
    )


def start_entries(starts: Sequence[Start]) -> list[TimelineEntry]:
    """The entries of starts, oldest first; `again` where all of an entry have started before."""
    groups: list[list[Start]] = []
    for start in starts:
        if groups and start.at - groups[-1][0].at < _TOGETHER_MS:
            groups[-1].append(start)
        else:
            groups.append([start])
    entries, seen = [], set[str]()
    for group in groups:
        times = Counter(start.service for start in group)
        names = ", ".join(f"{it} ({n} times)" if n > 1 else it for it, n in times.items())
        first = group[0]
        entries.append(
            TimelineEntry(
                entry_id=f"start:{first.at}",
                at=first.at,
                kind="start",
                summary=f"{names} started" + (" again" if seen.issuperset(times) else ""),
                decided_by="unknown",
            )
        )
        seen |= times.keys()
    return entries


def click_through_change(
    event: ModelEvent, counts: Callable[[int, int], Mapping[Bucket, Counts]], window_ms: int
) -> ClickThroughChange | None:
    """Click-through before and after a change of the champion; None for another event."""
    if event.event not in _NEW_CHAMPION:
        return None
    at, version = event.timestamp, event.previous or ""

    def clicked(since: int, until: int, version: str) -> RateInterval:
        by_version = grouped(counts(since, until), lambda bucket: bucket.model_version)
        return row(by_version.get(version, Counts())).click_through

    # The bucket of the change is of both: its slates tell by their version. The others tell by
    # time, too, since a canary or an earlier champion has slates from before.
    return ClickThroughChange(
        window_ms=window_ms,
        version_before=version,
        before=clicked(at - window_ms, at, version),
        version_after=event.version,
        after=clicked(at - at % BUCKET_MS, at + window_ms, event.version),
    )


def merged(entries: Sequence[TimelineEntry], limit: int) -> tuple[list[TimelineEntry], bool]:
    """The newest `limit` entries, newest first, and whether there are more."""
    ordered = sorted(entries, key=lambda entry: entry.position, reverse=True)
    return ordered[:limit], len(ordered) > limit


def _within(position: Position | None, prefix: str) -> tuple[int, str] | None:
    """The position that a page goes on from, in the list of the entries with this prefix.

    In that of alerts it is (opened_at, alert_id), in that of model events
    (timestamp, `version:event`).
    """
    if position is None:
        return None
    if position.entry_id.startswith(prefix):
        return position.at, position.entry_id.removeprefix(prefix)
    # Of one time, kinds go by their name: those that come later in it are before the position.
    return (position.at, "") if prefix > position.entry_id else (position.at + 1, "")


class RunPages(NamedTuple):
    """Runs below a position, newest first, each with the cursor of its page in training.

    `last` is the cursor of the last page that was read.
    """

    runs: list[tuple[Run, str | None]]
    last: str | None

    def cursor_after(self, shown: Collection[str]) -> str | None:
        """The cursor of the page with the first run that is not among those shown, by their ids."""
        return next((cursor for run, cursor in self.runs if run.run_id not in shown), self.last)


class TooManyRunsError(Exception):
    """The runs of a position are further back than `MOST_RUN_PAGES` pages."""


def read_runs(
    ask: Callable[[str | None], tuple[Sequence[Run], str | None]],
    position: Position | None,
    wanted: int,
    cursor: str | None,
) -> RunPages:
    """At least `wanted` runs below a position, where there are as many.

    Args:
        ask: Returns training's page at a cursor, newest first, and the next cursor.
        position: Where the page of the timeline begins; None for the newest.
        cursor: Training's cursor to begin with; None for the newest.

    Raises:
        TooManyRunsError: `MOST_RUN_PAGES` pages have newer runs alone.
    """
    found: list[tuple[Run, str | None]] = []
    newer = 0
    while newer < MOST_RUN_PAGES:
        runs, following = ask(cursor)
        below = [
            (run, cursor)
            for run in runs
            if position is None or (run.created_at, _RUN + run.run_id) < position
        ]
        found += below
        if len(found) >= wanted or following is None:
            return RunPages(found, cursor)
        newer += not below
        cursor = following
    raise TooManyRunsError


def runs_of(training: Peer, cursor: str | None) -> tuple[list[Run], str | None]:
    """Training's page of runs at a cursor, newest first, and the next cursor. Raises PeerError."""
    asked: dict[str, object] = {"limit": _RUNS_ON_PAGE}
    if cursor is not None:
        asked["cursor"] = cursor
    page = training.get("/v1/runs", **asked)
    try:
        return [Run.model_validate(run) for run in page["items"]], page["next_cursor"]
    except (KeyError, ValidationError) as error:
        raise PeerError(f"training's answer has no runs: {error}") from error


class Cursor(NamedTuple):
    """The last entry of a page, and training's cursor of the runs after it."""

    position: Position
    runs: str | None

    def text(self) -> str:
        packed = json.dumps([*self.position, self.runs]).encode()
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor of a text. Raises ValueError for one that `text` has not made."""
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        match found:
            case [int(at), str(entry_id), None | str() as runs] if (runs or "").isprintable():
                return cls(Position.given(at, entry_id), runs)
        raise ValueError("not a cursor")


class Timeline:
    """Reads the timeline in pages.

    Args:
        records: Repository of model events.
        counts: Returns the counts of a period (ms).
        ask_runs: Returns training's page of runs at a cursor, newest first, and the next cursor.
            Raises PeerError.
        audit: Monitoring's audit records.
    """

    def __init__(
        self,
        book: AlertBook,
        records: RecordLog,
        counts: Callable[[int, int], Mapping[Bucket, Counts]],
        ask_runs: Callable[[str | None], tuple[Sequence[Run], str | None]],
        audit: AuditLog,
    ) -> None:
        self._book, self._records, self._counts = book, records, counts
        self._ask_runs, self._audit = ask_runs, audit

    def page(
        self, limit: int, cursor: Cursor | None, window_ms: int, *, audited: bool = True
    ) -> TimelinePage:
        """At most `limit` entries, newest first, with click-through within `window_ms` of changes.

        Without training's answer, runs are left out; unless `audited`, what people did. `missing`
        says so.
        """
        position = cursor.position if cursor else None
        missing: list[MissingPart] = []
        pages = RunPages([], cursor.runs if cursor else None)
        try:
            pages = read_runs(self._ask_runs, position, limit + 1, pages.last)
        except PeerError as error:
            missing.append(MissingPart(part="runs", reason=str(error)))
        except TooManyRunsError:
            reason = "there are too many newer runs: begin again with the first page"
            missing.append(MissingPart(part="runs", reason=reason))
        others = start_entries(self._records.starts(MOST_STARTS))
        if audited:
            others += self._audit_entries(position, missing)
        else:
            missing.append(MissingPart(part="audit", reason="it takes the scope admin"))
        alerts = self._book.page("all", limit + 1, _within(position, _ALERT))
        known = self._book.acknowledged([alert.alert_id for alert in alerts])
        events = self._records.model_events(limit + 1, EVENTS, _within(position, _MODEL))
        chosen, more = merged(
            [
                *(alert_entry(alert, known.get(alert.alert_id)) for alert in alerts),
                *self._run_entries([run for run, _ in pages.runs]),
                *(model_entry(event, ()) for event in events),
                *(it for it in others if position is None or it.position < position),
            ],
            limit,
        )
        shown = {entry.run.run_id for entry in chosen if entry.run}
        following = Cursor(chosen[-1].position, pages.cursor_after(shown)).text() if more else None
        return TimelinePage(
            items=self._with_decisions(chosen, window_ms), next_cursor=following, missing=missing
        )

    def _audit_entries(
        self, position: Position | None, missing: list[MissingPart]
    ) -> list[TimelineEntry]:
        """The entries of the newest audit records, which go down to a position or are `missing`."""
        page = self._audit.page(MOST_AUDITED, None, _UNTOLD)
        if page.next_cursor and position and position.at < page.items[-1].at:
            reason = f"of these the timeline has the newest {MOST_AUDITED}; GET /v1/audit has all"
            missing.append(MissingPart(part="audit", reason=reason))
        return list(map(audit_entry, page.items))

    def _run_entries(self, runs: Sequence[Run]) -> list[TimelineEntry]:
        """The entries of runs, newest first, each with the alerts that it answers."""
        if not runs:
            return []
        asking = self._book.asking(runs[0].created_at, MOST_ASKING)
        return [run_entry(run, before, asking) for run, before in zip_longest(runs, runs[1:])]

    def _with_decisions(
        self, chosen: Sequence[TimelineEntry], window_ms: int
    ) -> list[TimelineEntry]:
        """The entries of a page, those of models with who decided and what visitors clicked."""
        versions = {entry.model.version for entry in chosen if entry.model}
        decisions = self._records.decisions(versions) if versions else {}
        return [
            entry
            if (event := entry.model) is None
            else model_entry(
                event,
                decisions.get(event.version, ()),
                click_through_change(event, self._counts, window_ms),
            )
            for entry in chosen
        ]
