"""REST routes of placements."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from services.monitoring.named_records.api import (
    CHANGED,
    PAGE_LIMIT,
    BeforeRevision,
    IfMatch,
    Limit,
    RecordRoutes,
    missing,
)
from services.monitoring.placements.bodies import PolicyBody
from slipstream.chassis.access.guard import requires
from slipstream.contracts.access import Scope
from slipstream.contracts.placements import Placement, PlacementName, PlacementPolicy
from slipstream.contracts.rest import Problem

PathName = Annotated[PlacementName, Path()]
PlacementRoutes = RecordRoutes[Placement, PlacementPolicy]


class PlacementPage(BaseModel):
    """Placements by name; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: str | None


class RevisionPage(BaseModel):
    """Revisions of a placement, newest first; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: int | None


router = APIRouter(prefix="/v1/placements", tags=["placements"])


def routes(request: Request) -> PlacementRoutes:
    """What the lifespan has opened."""
    opened: PlacementRoutes = request.app.state.placements
    return opened


@router.get("", summary="All placements, by name")
@requires(Scope.READ)
def list_placements(
    request: Request,
    limit: Limit = PAGE_LIMIT,
    cursor: Annotated[PlacementName, Query(description="`next_cursor` of the page before")]
    | None = None,
) -> PlacementPage:
    """Each placement as it is now. Deleted ones are left out."""
    items, following = routes(request).page(limit, cursor)
    return PlacementPage(items=items, next_cursor=following)


@router.get("/{name}", summary="One placement", responses=missing("placement"))
@requires(Scope.READ)
def get_placement(request: Request, response: Response, name: PathName) -> Placement:
    """The placement as it is now; `ETag` is its revision."""
    return routes(request).get(response, name)


@router.put(
    "/{name}",
    summary="Create or replace a placement",
    responses={
        201: {"model": Placement, "description": "created"},
        409: {"model": Problem, "description": "too_many_placements"},
        **CHANGED,
    },
)
@requires(Scope.OPERATE)
def put_placement(
    request: Request,
    response: Response,
    name: PathName,
    body: PolicyBody,
    if_match: IfMatch = None,
) -> Placement:
    """Give a placement this policy, whole. Serving has it within a second.

    The same policy again changes nothing, and makes no revision.
    """
    return routes(request).put(request, response, name, body.policy(), if_match)


@router.delete(
    "/{name}", summary="Delete a placement", responses={**missing("placement"), **CHANGED}
)
@requires(Scope.OPERATE)
def delete_placement(request: Request, name: PathName, if_match: IfMatch = None) -> Placement:
    """Delete a placement; its slates are made without rules within a second. Revisions stay."""
    return routes(request).delete(request, name, if_match)


@router.get(
    "/{name}/revisions", summary="Every revision of a placement", responses=missing("placement")
)
@requires(Scope.READ)
def list_revisions(
    request: Request, name: PathName, limit: Limit = PAGE_LIMIT, cursor: BeforeRevision = None
) -> RevisionPage:
    """Every state that it has had, newest first, also where it is deleted."""
    items, following = routes(request).revisions(name, limit, cursor)
    return RevisionPage(items=items, next_cursor=following)
