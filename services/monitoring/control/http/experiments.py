"""REST routes of experiments, and the body of an experiment's design.

The body is the contract's, with the checks that records are spared.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from services.monitoring.control.experiments_repository import (
    ExperimentsCollideError,
    ExperimentTable,
    UnknownPlacementError,
)
from services.monitoring.control.http.named_records import (
    CHANGED,
    PAGE_LIMIT,
    BeforeRevision,
    IfMatch,
    Limit,
    RecordRoutes,
    missing,
)
from services.monitoring.control.named_records_repository import NoRecordError
from services.monitoring.control.results import ExperimentResults
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.access import Scope
from slipstream.contracts.experiments import (
    GUARDRAIL_METRICS,
    HOLDOUT,
    MOST_VARIANTS,
    NO_EXPERIMENT,
    PRIMARY_METRICS,
    Experiment,
    ExperimentDesign,
    ExperimentName,
    Guard,
    Guardrail,
    Variant,
)
from slipstream.contracts.rest import Problem
from slipstream.contracts.spellings import did_you_mean
from slipstream.contracts.vocabulary import CHAMPION


class VariantBody(Variant, extra="forbid"):
    """A variant."""


class GuardBody(Guard, extra="forbid"):
    """The bounds of a canary."""


class GuardrailBody(Guardrail, extra="forbid"):
    """A metric that must not become worse."""

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        return _known(metric, GUARDRAIL_METRICS)


class DesignBody(ExperimentDesign, extra="forbid"):
    """The visitors, the variants and the time of an experiment."""

    variants: Annotated[  # type: ignore[assignment]
        list[VariantBody], Field(min_length=2, max_length=MOST_VARIANTS)
    ]
    guard: GuardBody = GuardBody()
    guardrails: Annotated[list[GuardrailBody], Field(max_length=len(GUARDRAIL_METRICS))] = Field(  # type: ignore[assignment]
        default_factory=list
    )

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        return _known(metric, PRIMARY_METRICS)

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise _refused("two variants have the same name")
        if taken := {HOLDOUT, NO_EXPERIMENT} & set(names):
            raise _refused(f"{taken.pop()} is reserved: choose another name for the variant")
        if len(set(self.placements)) < len(self.placements):
            raise _refused("a placement is named twice")
        if self.kind != "split" and len(names) != 2:
            raise _refused(f"an experiment of kind {self.kind} takes exactly two variants")
        if self.kind == "canary" and (self.variants[0].model or not self.variants[1].model):
            raise _refused("the first variant of a canary has the champion, the second a model")
        if any(variant.model == CHAMPION for variant in self.variants):
            raise _refused("a variant without a model has the champion")
        if self.kind != "canary" and self.guard.model_dump() != Guard().model_dump():
            raise _refused("only a canary has a guard")
        guarded = [guardrail.metric for guardrail in self.guardrails]
        if len(set(guarded)) < len(guarded):
            raise _refused("two guardrails have the same metric")
        if self.metric in guarded:
            raise _refused(f"{self.metric} is the primary metric: it needs no guardrail")
        if self.ends_at is not None and self.ends_at <= (self.starts_at or 0):
            raise _refused("it ends before it starts")
        return self

    def design(self) -> ExperimentDesign:
        """The design as records carry it. One that runs has not been stopped for a reason."""
        told = {} if self.state == "stopped" else {"stopped_because": ""}
        return ExperimentDesign.model_validate(self.model_dump() | told)


def _known(metric: str, metrics: Collection[str]) -> str:
    if metric not in metrics:
        raise _refused(f"there is no metric {metric!r} for this: {did_you_mean(metric, metrics)}")
    return metric


def _refused(words: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_design", "{words}", {"words": words})


PathName = Annotated[ExperimentName, Path()]


@dataclass(frozen=True)
class ExperimentRoutes(RecordRoutes[Experiment, ExperimentDesign]):
    """The answers of the routes, with those of results."""

    table: ExperimentTable

    def results(self, name: str) -> ExperimentResults:
        """The results of an experiment as it is now."""
        try:
            return self.table.results(name, self.clock())
        except NoRecordError as error:
            raise self.unknown(name) from error


class ExperimentPage(BaseModel):
    """Experiments by name; `next_cursor` is null on the last page."""

    items: list[Experiment]
    next_cursor: str | None


class ExperimentRevisionPage(BaseModel):
    """Revisions of an experiment, newest first; `next_cursor` is null on the last page."""

    items: list[Experiment]
    next_cursor: int | None


router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


def routes(request: Request) -> ExperimentRoutes:
    """What the lifespan has opened."""
    opened: ExperimentRoutes = request.app.state.experiments
    return opened


@router.get("", summary="All experiments, by name")
@requires(Scope.READ)
def list_experiments(
    request: Request,
    limit: Limit = PAGE_LIMIT,
    cursor: Annotated[ExperimentName, Query(description="`next_cursor` of the page before")]
    | None = None,
) -> ExperimentPage:
    """Each experiment as it is now, also where it is stopped. Deleted ones are left out."""
    items, following = routes(request).page(limit, cursor)
    return ExperimentPage(items=items, next_cursor=following)


@router.get("/{name}", summary="One experiment", responses=missing("experiment"))
@requires(Scope.READ)
def get_experiment(request: Request, response: Response, name: PathName) -> Experiment:
    """The experiment as it is now; `ETag` is its revision."""
    return routes(request).get(response, name)


@router.put(
    "/{name}",
    summary="Create or replace an experiment",
    responses={
        201: {"model": Experiment, "description": "created"},
        409: {
            "model": Problem,
            "description": "experiments_collide, unknown_placement, too_many_experiments",
        },
        **CHANGED,
    },
)
@requires(Scope.OPERATE)
def put_experiment(
    request: Request,
    response: Response,
    name: PathName,
    body: DesignBody,
    if_match: IfMatch = None,
) -> Experiment:
    """Give an experiment this design, whole. Serving has it within a second.

    Refused where another one counts for one of its placements at the same time. The same design
    again changes nothing, and makes no revision.
    """
    try:
        return routes(request).put(request, response, name, body.design(), if_match)
    except ExperimentsCollideError as error:
        raise ConflictError(str(error), code="experiments_collide") from error
    except UnknownPlacementError as error:
        raise ConflictError(str(error), code="unknown_placement") from error


@router.delete(
    "/{name}", summary="Delete an experiment", responses={**missing("experiment"), **CHANGED}
)
@requires(Scope.OPERATE)
def delete_experiment(request: Request, name: PathName, if_match: IfMatch = None) -> Experiment:
    """Delete an experiment. It assigns no more visitors a second later. Revisions stay."""
    return routes(request).delete(request, name, if_match)


@router.get(
    "/{name}/results",
    summary="Metrics and verdicts of its variants",
    responses=missing("experiment"),
)
@requires(Scope.READ)
def get_experiment_results(request: Request, name: PathName) -> ExperimentResults:
    """Metrics of each variant over all visitors of the newest design, and verdicts with reasons.

    Intervals are confidence sequences of 95 %: they hold whenever and however often one looks.
    """
    return routes(request).results(name)


@router.get(
    "/{name}/revisions", summary="Every revision of an experiment", responses=missing("experiment")
)
@requires(Scope.READ)
def list_experiment_revisions(
    request: Request, name: PathName, limit: Limit = PAGE_LIMIT, cursor: BeforeRevision = None
) -> ExperimentRevisionPage:
    """Every state that it has had, newest first, also where it is deleted."""
    items, following = routes(request).revisions(name, limit, cursor)
    return ExperimentRevisionPage(items=items, next_cursor=following)
