"""REST routes of placements."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel

from services.monitoring.placements.bodies import PolicyBody
from services.monitoring.placements.repository import (
    MOST_PLACEMENTS,
    NoPlacementError,
    PlacementTable,
    RevisionMismatchError,
    TooManyPlacementsError,
)
from slipstream.chassis.access.audits import audit_record
from slipstream.chassis.access.demands import requires
from slipstream.chassis.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
)
from slipstream.contracts.access import Scope
from slipstream.contracts.placements import Placement, PlacementName
from slipstream.contracts.rest import AuditRecord, Problem

# Policies of a page have `bodies.MOST_BYTES` each.
PAGE_LIMIT: Final = 50
PathName = Annotated[PlacementName, Path()]
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]
IfMatch = Annotated[
    str | None,
    Header(description='revision that it must have, as in `"7"`; else 412'),
]
NO_PLACEMENT: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "no_placement"}
}
CHANGED: Final[dict[int | str, dict[str, Any]]] = {
    412: {"model": Problem, "description": "precondition_failed"}
}


@dataclass(frozen=True)
class PlacementParts:
    """The parts of the service that these routes use."""

    table: PlacementTable
    changed: Callable[[], None]
    clock: Callable[[], int]


class PlacementPage(BaseModel):
    """Placements by name; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: str | None


class RevisionPage(BaseModel):
    """Revisions of a placement, newest first; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: int | None


router = APIRouter(prefix="/v1/placements", tags=["placements"])


def parts(request: Request) -> PlacementParts:
    """The parts that the lifespan has opened."""
    opened: PlacementParts = request.app.state.placements
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
    found = parts(request).table.page(limit + 1, cursor or "")
    items = found[:limit]
    return PlacementPage(items=items, next_cursor=items[-1].name if len(found) > limit else None)


@router.get("/{name}", summary="One placement", responses=NO_PLACEMENT)
@requires(Scope.READ)
def get_placement(request: Request, response: Response, name: PathName) -> Placement:
    """The placement as it is now; `ETag` is its revision."""
    try:
        return _tagged(parts(request).table.find(name), response)
    except NoPlacementError as error:
        raise _no_placement(name) from error


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
    opened, audit = parts(request), _audit(request, "put_placement", name)
    try:
        put = opened.table.put(name, body.policy(), audit, _revision(if_match))
    except RevisionMismatchError as error:
        raise PreconditionFailedError(f"{error}: read it again") from error
    except TooManyPlacementsError as error:
        raise ConflictError(
            f"there are {MOST_PLACEMENTS} placements, and more are not taken: delete one",
            code="too_many_placements",
        ) from error
    opened.changed()
    if put.created:
        response.status_code = 201
    return _tagged(put.placement, response)


@router.delete("/{name}", summary="Delete a placement", responses={**NO_PLACEMENT, **CHANGED})
@requires(Scope.OPERATE)
def delete_placement(request: Request, name: PathName, if_match: IfMatch = None) -> Placement:
    """Delete a placement; its slates are made without rules within a second. Revisions stay."""
    opened, audit = parts(request), _audit(request, "delete_placement", name)
    try:
        deleted = opened.table.delete(name, audit, _revision(if_match))
    except RevisionMismatchError as error:
        raise PreconditionFailedError(f"{error}: read it again") from error
    except NoPlacementError as error:
        raise _no_placement(name) from error
    opened.changed()
    return deleted


@router.get("/{name}/revisions", summary="Every revision of a placement", responses=NO_PLACEMENT)
@requires(Scope.READ)
def list_revisions(
    request: Request,
    name: PathName,
    limit: Limit = PAGE_LIMIT,
    cursor: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="revision behind which the page begins")
    ] = None,
) -> RevisionPage:
    """Every state that it has had, newest first, also where it is deleted."""
    try:
        found = parts(request).table.revisions(name, limit + 1, cursor)
    except NoPlacementError as error:
        raise _no_placement(name) from error
    items = found[:limit]
    following = items[-1].revision if len(found) > limit else None
    return RevisionPage(items=items, next_cursor=following)


def _revision(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    if not re.fullmatch(r'"[1-9][0-9]{0,8}"', if_match):
        raise InvalidRequestError('If-Match takes one revision in quotes, as in "7"')
    return int(if_match.strip('"'))


def _audit(request: Request, action: str, name: str) -> AuditRecord:
    return audit_record(request, action, name, {}, parts(request).clock())


def _tagged(placement: Placement, response: Response) -> Placement:
    response.headers["ETag"] = f'"{placement.revision}"'
    return placement


def _no_placement(name: str) -> NotFoundError:
    return NotFoundError(f"there is no placement {name}", code="no_placement")
