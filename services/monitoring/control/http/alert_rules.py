"""REST routes of alert rules, and the body of a rule's definition.

The body is the stored definition, with the checks that rows are spared: names that are not known
are refused with the one that was probably meant, and so are fields that a metric does not take.
"""

from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, Self, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.monitoring.alert_rules import BUILT_IN, Action
from services.monitoring.control.http.named_records import (
    CHANGED,
    PAGE_LIMIT,
    BeforeRevision,
    IfMatch,
    Limit,
    RecordRoutes,
    missing,
)
from services.monitoring.control.named_records_repository import AlertRule, RuleName
from services.monitoring.threshold_rules import METRICS, AlertDefinition, MetricName
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import Severity
from slipstream.contracts.rest import Problem
from slipstream.contracts.services import SERVICES
from slipstream.contracts.spellings import did_you_mean

_BUILT_IN: Final = frozenset(rule.name for rule in BUILT_IN)


def _refused(code: str, words: str) -> PydanticCustomError:
    return PydanticCustomError(f"invalid_{code}", "{words}", {"words": words})


def _one_of(kind: str, known: Collection[str]) -> Callable[[Any], Any]:
    """A check that a name is known, with the one that was probably meant."""

    def check(name: Any) -> Any:
        if isinstance(name, str) and name not in known:
            raise _refused(kind, f"there is no {kind} {name[:64]!r}: {did_you_mean(name, known)}")
        return name

    return check


class DefinitionBody(AlertDefinition, extra="forbid"):
    """The metric, threshold and severity of a rule, and the request to training."""

    metric: Annotated[MetricName, BeforeValidator(_one_of("metric", METRICS))]
    severity: Annotated[Severity, BeforeValidator(_one_of("severity", [*Severity]))] = (
        Severity.WARNING
    )
    action: Annotated[Action, BeforeValidator(_one_of("action", get_args(Action)))] = "none"

    @field_validator("threshold")
    @classmethod
    def _in_range(cls, threshold: float, info: ValidationInfo) -> float:
        name = info.data.get("metric")  # absent where it was refused
        if name and METRICS[name].unit == "share" and not 0 <= threshold <= 1:
            raise _refused("threshold", f"{name} is a share: from 0 to 1")
        return threshold

    @model_validator(mode="after")
    def _fits_the_metric(self) -> Self:
        metric = METRICS[self.metric]
        if self.of and not metric.by:
            raise _refused("of", f"{self.metric} has one reading: leave `of` out")
        if self.of and metric.by == "service" and self.of not in SERVICES:
            hint = did_you_mean(self.of, SERVICES)
            raise _refused("of", f"there is no service {self.of!r}: {hint}")
        if self.window_minutes is not None and not metric.windowed:
            raise _refused("window_minutes", f"{self.metric} has a time of its own")
        if self.least_samples is not None and not metric.sampled:
            raise _refused("least_samples", f"{self.metric} has no samples")
        if self.action != "none" and not metric.of_models:
            raise _refused("action", f"a training run does not change {self.metric}")
        return self

    def definition(self) -> AlertDefinition:
        """The definition as it is stored."""
        return AlertDefinition.model_validate(self.model_dump())


PathName = Annotated[RuleName, Path()]
AlertRuleRoutes = RecordRoutes[AlertRule, AlertDefinition]


class AlertRulePage(BaseModel):
    """Alert rules by name; `next_cursor` is null on the last page."""

    items: list[AlertRule]
    next_cursor: str | None
    built_in: list[str] = Field(sorted(_BUILT_IN), description="rules that can't be changed")


class AlertRuleRevisionPage(BaseModel):
    """Revisions of an alert rule, newest first; `next_cursor` is null on the last page."""

    items: list[AlertRule]
    next_cursor: int | None


router = APIRouter(prefix="/v1/alert-rules", tags=["alert rules"])


def routes(request: Request) -> AlertRuleRoutes:
    """What the lifespan has opened."""
    opened: AlertRuleRoutes = request.app.state.alert_rules
    return opened


@router.get("", summary="All alert rules that are data, by name")
@requires(Scope.READ)
def list_alert_rules(
    request: Request,
    limit: Limit = PAGE_LIMIT,
    cursor: Annotated[RuleName, Query(description="`next_cursor` of the page before")]
    | None = None,
) -> AlertRulePage:
    """Each rule as it is now. Deleted ones are left out."""
    items, following = routes(request).page(limit, cursor)
    return AlertRulePage(items=items, next_cursor=following)


@router.get("/{name}", summary="One alert rule", responses=missing("alert_rule"))
@requires(Scope.READ)
def get_alert_rule(request: Request, response: Response, name: PathName) -> AlertRule:
    """The rule as it is now; `ETag` is its revision."""
    return routes(request).get(response, name)


@router.put(
    "/{name}",
    summary="Create or replace an alert rule",
    responses={
        201: {"model": AlertRule, "description": "created"},
        409: {"model": Problem, "description": "built_in_rule, too_many_alert_rules"},
        **CHANGED,
    },
)
@requires(Scope.OPERATE)
def put_alert_rule(
    request: Request,
    response: Response,
    name: PathName,
    body: DefinitionBody,
    if_match: IfMatch = None,
) -> AlertRule:
    """Give a rule this definition, whole. The next round of checks judges by it.

    The same definition again changes nothing, and makes no revision.
    """
    if name in _BUILT_IN:
        raise ConflictError(f"{name} is built in: choose another name", code="built_in_rule")
    return routes(request).put(request, response, name, body.definition(), if_match)


@router.delete(
    "/{name}", summary="Delete an alert rule", responses={**missing("alert_rule"), **CHANGED}
)
@requires(Scope.OPERATE)
def delete_alert_rule(request: Request, name: PathName, if_match: IfMatch = None) -> AlertRule:
    """Delete a rule; the next round of checks closes its alert. Revisions stay."""
    return routes(request).delete(request, name, if_match)


@router.get(
    "/{name}/revisions",
    summary="Every revision of an alert rule",
    responses=missing("alert_rule"),
)
@requires(Scope.READ)
def list_alert_rule_revisions(
    request: Request, name: PathName, limit: Limit = PAGE_LIMIT, cursor: BeforeRevision = None
) -> AlertRuleRevisionPage:
    """Every state that it has had, newest first, also where it is deleted."""
    items, following = routes(request).revisions(name, limit, cursor)
    return AlertRuleRevisionPage(items=items, next_cursor=following)
