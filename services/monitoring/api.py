"""REST routes: reports, alerts, the state of the services."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from services.monitoring import quality, runbook
from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Acknowledgement, Action, Alert
from services.monitoring.checkup import Checkup
from services.monitoring.counting import outcomes
from services.monitoring.counting.counter import LAKE_TABLES
from services.monitoring.counting.outcomes_repository import OutcomeTable, kept_since
from services.monitoring.probes import ServiceState
from services.monitoring.quality import BUCKET_MS
from services.monitoring.repository import RecordLog
from services.monitoring.settings import MonitoringSection
from services.monitoring.snapshot import LONGEST_WINDOW_MINUTES, DriftReport, Snapshot
from services.monitoring.threshold_rules import METRICS, WINDOW_MINUTES, MetricName, Unit
from services.monitoring.timeline import Cursor, Position, Timeline, TimelinePage
from slipstream.chassis.access.guard import audit_record, principal_of, requires
from slipstream.chassis.errors import InvalidRequestError, NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import ModelEvent, Severity
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import DAY_MS, HOUR_MS

STEPS_MS = {"5m": BUCKET_MS, "hour": HOUR_MS, "day": DAY_MS}
# Longest period of a report on quality, in hours.
MAX_HOURS = 24 * 90
# Most steps of its series, each with a row for every model version: the longest period in hours.
MAX_STEPS = MAX_HOURS
MODEL_EVENTS_SHOWN = 10
# Longest periods that the timeline compares: a week.
MAX_WINDOW_MINUTES = 7 * 24 * 60


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    records: RecordLog
    book: AlertBook
    checkup: Checkup
    settings: MonitoringSection
    clock: Callable[[], int]
    timeline: Timeline
    outcomes: OutcomeTable

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises `UnavailableError` before the first round of checks."""
        if self.checkup.latest is None:
            raise UnavailableError(
                "The first round of checks is under way; try again in a few seconds",
                code="not_checked_yet",
            )
        return self.checkup.latest


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


NOT_CHECKED_YET: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "the first round is under way"}
}


class AlertBody(BaseModel):
    """An alert, open until `closed_at`; times in ms.

    `action` was asked of training when it opened: a run, or to promote nothing meanwhile.
    """

    alert_id: str
    rule: str
    severity: Severity
    state: Literal["open", "closed"]
    summary: str
    evidence: dict[str, Any]
    action: Action
    opened_at: int
    checked_at: int
    closed_at: int | None
    runbook: str = Field(description="text, or the address of a page")
    acknowledged: Acknowledgement | None = Field(
        None, description="who said last that it is known, and when"
    )

    @classmethod
    def of(
        cls,
        alert: Alert,
        acknowledged: Acknowledgement | None,
        runbook_url: str,
    ) -> "AlertBody":
        state: Literal["open", "closed"] = "open" if alert.closed_at is None else "closed"
        return cls(
            alert_id=alert.alert_id,
            rule=alert.rule,
            severity=alert.severity,
            state=state,
            summary=alert.summary,
            evidence=dict(alert.evidence),
            action=alert.action,
            opened_at=alert.opened_at,
            checked_at=alert.checked_at,
            closed_at=alert.closed_at,
            runbook=runbook.address(alert.runbook, runbook_url or runbook.PATH),
            acknowledged=acknowledged,
        )


class AcknowledgeBody(BaseModel, extra="forbid"):
    """A note for others, kept with the alert."""

    note: str = Field("", max_length=1_000)


class AlertPage(BaseModel):
    """Alerts, newest first; `next_cursor` is null on the last page."""

    items: list[AlertBody]
    next_cursor: str | None


class ServicesReport(BaseModel):
    """Every service at `checked_at` (milliseconds)."""

    checked_at: int
    items: list[ServiceState]


class Overview(BaseModel):
    """The newest snapshot, and the model versions' latest events."""

    snapshot: Snapshot
    check_interval_s: float
    model_events: list[ModelEvent] = Field(description="newest first")


router = APIRouter(prefix="/v1", tags=["monitoring"])


@router.get("/overview", summary="The newest round of checks, whole", responses=NOT_CHECKED_YET)
@requires(Scope.READ)
def overview(request: Request) -> Overview:
    """Services, champion and latest runs, freshness, drift, click-through by version."""
    opened = parts(request)
    return Overview(
        snapshot=opened.snapshot(),
        check_interval_s=opened.settings.check_interval_s,
        model_events=opened.records.model_events(MODEL_EVENTS_SHOWN),
    )


@router.get("/services", summary="State of every service", responses=NOT_CHECKED_YET)
@requires(Scope.READ)
def services(request: Request) -> ServicesReport:
    """The answers of each `/health/ready` in the newest round of checks."""
    opened = parts(request)
    snapshot = opened.snapshot()
    return ServicesReport(checked_at=snapshot.checked_at, items=snapshot.services)


@router.get(
    "/reports/quality",
    summary="Click-through and conversion of slates",
    responses={400: {"model": Problem, "description": "too_many_steps"}},
)
@requires(Scope.READ)
def quality_report(
    request: Request,
    hours: Annotated[
        int, Query(ge=1, le=MAX_HOURS, description="length of the period up to now")
    ] = 24,
    step: Annotated[
        Literal["5m", "hour", "day"],
        Query(description="length of a bucket of the series; 5m for at most 180 hours"),
    ] = "hour",
) -> quality.QualityReport:
    """Rates by model version, by answering step, and over time, with 95 % intervals.

    Slates are counted from the lake, and responses are credited as in the report on outcomes. A
    slate counts at the time of its answer, whenever it is clicked, and each of its items once.
    """
    _refuse_many_steps(hours, step)
    opened = parts(request)
    now_ms = opened.clock()
    since = now_ms - hours * HOUR_MS
    since -= since % BUCKET_MS
    window_ms = opened.settings.attribution_window_s * 1000
    return quality.report(
        opened.outcomes.counts(since, now_ms + 1), since, now_ms, STEPS_MS[step], window_ms
    )


def _refuse_many_steps(hours: int, step: str) -> None:
    """Raise `InvalidRequestError` for a series of more than `MAX_STEPS` steps."""
    steps = hours * HOUR_MS // STEPS_MS[step]
    if steps > MAX_STEPS:
        most = MAX_STEPS * STEPS_MS[step] // HOUR_MS
        raise InvalidRequestError(
            f"{hours} hours have {steps:,} steps of {step}, and a report has at most"
            f" {MAX_STEPS:,}: ask for step=hour, or for at most {most} hours",
            code="too_many_steps",
        )


@router.get("/reports/outcomes", summary="Clicks, purchases and revenue by place of a list")
@requires(Scope.READ)
def outcomes_report(
    request: Request,
    hours: Annotated[
        int, Query(ge=1, le=MAX_HOURS, description="length of the period up to now")
    ] = 24,
    by: Annotated[
        list[outcomes.Dimension],
        Query(max_length=3, description="what groups are made by: up to three dimensions"),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> outcomes.OutcomesReport:
    """What recommendations led to, each response credited to the place of the list behind it.

    The period begins with an hour where it is longer than three days, and with a day (UTC) where it
    is longer than a month. Groups of fewer than ten visitors are hidden.
    """
    opened = parts(request)
    now_ms = opened.clock()
    since = kept_since(now_ms - hours * HOUR_MS, now_ms)
    return outcomes.report(
        opened.outcomes.rows(since, now_ms),
        since,
        now_ms,
        by,
        opened.outcomes.counted_until(),
        opened.outcomes.left_out(LAKE_TABLES),
    )


@router.get(
    "/reports/drift",
    summary="Drift of what the model reads and says, and faults of the data",
    responses=NOT_CHECKED_YET,
)
@requires(Scope.READ)
def drift_report(request: Request) -> DriftReport:
    """Distances of the newest window from windows at like moments, by measure; faults; the mix of
    answering steps. Each visitor counts once in a window.
    """
    opened = parts(request)
    return opened.snapshot().drift


@router.get(
    "/alerts",
    summary="Alerts, newest first",
    responses={400: {"model": Problem, "description": "invalid_cursor"}},
)
@requires(Scope.READ)
def alerts(
    request: Request,
    state: Annotated[Literal["open", "closed", "all"], Query()] = "all",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=1_000, description="`next_cursor` of the page before")
    ] = None,
) -> AlertPage:
    """Open and closed alerts with their evidence."""
    opened = parts(request)
    page = opened.book.page(state, limit + 1, _position(cursor) if cursor else None)
    last = page[limit - 1] if len(page) > limit else None
    ids = [alert.alert_id for alert in page]
    known = opened.book.acknowledged(ids)
    return AlertPage(
        items=[
            AlertBody.of(alert, known.get(alert.alert_id), opened.settings.runbook_url)
            for alert in page[:limit]
        ],
        next_cursor=_cursor(last) if last else None,
    )


@router.post(
    "/alerts/{alert_id}:acknowledge",
    summary="Say that an alert is known",
    responses={404: {"model": Problem, "description": "no_alert"}},
)
@requires(Scope.OPERATE)
def acknowledge_alert(
    request: Request, alert_id: str, body: AcknowledgeBody | None = None
) -> AlertBody:
    """Keep who knows of an alert, when, and a note; a later word replaces an earlier one.

    It changes neither the alert nor what it asks for. Alertmanager's silences are its own.
    """
    opened, note = parts(request), (body or AcknowledgeBody()).note
    record = audit_record(request, "acknowledge", alert_id, {"note": note}, opened.clock())
    try:
        alert = opened.book.acknowledge(record, note)
    except LookupError as error:
        raise NotFoundError(str(error), code="no_alert") from error
    known = Acknowledgement(at=record.at, by=record.principal, note=note)
    return AlertBody.of(alert, known, opened.settings.runbook_url)


class MetricReading(BaseModel):
    """A metric's present value; of a share with its 95 % interval, and the slates behind it."""

    of: str = Field(description="model version, placement or service; empty for all together")
    value: float
    low: float
    high: float
    samples: int


class MetricBody(BaseModel):
    """A metric that alert rules may compare, with its readings in the newest round of checks."""

    metric: MetricName
    unit: Unit
    by: Literal["", "model version", "placement", "service"]
    window_minutes: int | None = Field(description="null where a rule can't choose it")
    actions: list[Action]
    readings: list[MetricReading]


class MetricsReport(BaseModel):
    """All metrics of alert rules at `checked_at` (milliseconds)."""

    checked_at: int
    items: list[MetricBody]


@router.get("/alert-metrics", summary="What alert rules may compare", responses=NOT_CHECKED_YET)
@requires(Scope.READ)
def alert_metrics(
    request: Request,
    window_minutes: Annotated[
        int,
        Query(ge=5, le=LONGEST_WINDOW_MINUTES, description="time of the metrics of slates"),
    ] = WINDOW_MINUTES,
) -> MetricsReport:
    """Every metric with its present readings. Without any, rules give no verdict on it."""
    snapshot = parts(request).snapshot()
    return MetricsReport(
        checked_at=snapshot.checked_at,
        items=[
            MetricBody(
                metric=name,
                unit=it.unit,
                by=it.by,
                window_minutes=window_minutes if it.windowed else None,
                actions=["none", "retrain", "hold"] if it.of_models else ["none"],
                readings=[
                    MetricReading(**each._asdict()) for each in it.read(snapshot, window_minutes)
                ],
            )
            for name, it in METRICS.items()
        ],
    )


@router.get(
    "/timeline",
    summary="Alerts, runs, changes of models and by people, starts, newest first",
    responses={400: {"model": Problem, "description": "invalid_cursor"}},
)
@requires(Scope.READ)
def timeline(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        str | None, Query(max_length=1_000, description="`next_cursor` of the page before")
    ] = None,
    window_minutes: Annotated[
        int,
        Query(
            ge=5,
            le=MAX_WINDOW_MINUTES,
            description="length of the periods before and after a change of the champion",
        ),
    ] = 24 * 60,
) -> TimelinePage:
    """What happened, why, who decided it, and how click-through changed.

    Entries name those that led to them: a change of a model its run, a run the alerts that it
    answers. Where training does not answer, runs are left out; what people did, for those without
    the scope admin, which audit records take. `missing` says so.
    """
    try:
        position = Cursor.parse(cursor) if cursor else None
    except ValueError as error:
        raise _invalid_cursor() from error
    return parts(request).timeline.page(
        limit,
        position,
        window_minutes * 60_000,
        audited=Scope.ADMIN in principal_of(request).scopes,
    )


def _invalid_cursor() -> InvalidRequestError:
    return InvalidRequestError("This cursor was not given out by this list", code="invalid_cursor")


def _cursor(alert: Alert) -> str:
    return (
        base64.urlsafe_b64encode(f"{alert.opened_at}:{alert.alert_id}".encode())
        .decode()
        .rstrip("=")
    )


def _position(cursor: str) -> Position:
    try:
        opened_at, alert_id = (
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":", 1)
        )
        return Position.given(int(opened_at), alert_id)
    except ValueError as error:
        raise _invalid_cursor() from error
