"""REST routes of experiments."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from services.monitoring.experiments.bodies import DesignBody
from services.monitoring.experiments.repository import (
    ExperimentsCollideError,
    ExperimentTable,
    UnknownPlacementError,
)
from services.monitoring.experiments.results import ExperimentResults
from services.monitoring.named_records.api import (
    CHANGED,
    PAGE_LIMIT,
    BeforeRevision,
    IfMatch,
    Limit,
    RecordRoutes,
    missing,
)
from services.monitoring.named_records.repository import NoRecordError
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.access import Scope
from slipstream.contracts.experiments import Experiment, ExperimentDesign, ExperimentName
from slipstream.contracts.rest import Problem

PathName = Annotated[ExperimentName, Path()]


@dataclass(frozen=True)
class ExperimentRoutes(RecordRoutes[Experiment, ExperimentDesign]):
    """The answers of the routes, with those of results."""

    table: ExperimentTable

    def results(self, name: str) -> ExperimentResults:
        """The results of an experiment as it is now."""
        try:
            return self.table.results(name)
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
    """Delete an experiment; nobody is assigned within a second. Revisions stay."""
    return routes(request).delete(request, name, if_match)


@router.get("/{name}/results", summary="Rates of its variants", responses=missing("experiment"))
@requires(Scope.READ)
def get_experiment_results(request: Request, name: PathName) -> ExperimentResults:
    """Clicked and converted slates of each variant, of the slates that are still kept.

    Intervals are of 95 %, over visitors. Of an interleaving experiment also the votes of slates and
    visitors, with a sign test.
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
