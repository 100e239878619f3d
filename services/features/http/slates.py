"""REST routes about slates: their records in the lake, and the catalogue that one was made from."""

import asyncio
from itertools import chain
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from services.features.history.lake_snapshot import Ends, catalog_changes, past_catalog
from services.features.history.logged_slates import LogQuery, logged_slates
from services.features.http.reads import Parts, parts
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import ConflictError, NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.circumstances import Circumstances
from slipstream.contracts.events import Millis
from slipstream.contracts.placements import PlacementName
from slipstream.contracts.rest import Problem, SlateRecord
from slipstream.contracts.slates import given_at
from slipstream.stores.lake import LakeUnavailableError

router = APIRouter(prefix="/v1/slates", tags=["slates"])
RecommendationId = Annotated[str, Path(min_length=1, max_length=64)]
NO_SLATE: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "no_slate"}
}
NO_CATALOG: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Problem, "description": "no_circumstances"}
}


# Most sampled slates of one answer: a price is estimated from them.
MOST_LOGGED: Final = 10_000


@router.get("", response_class=StreamingResponse)
@requires(Scope.OPERATE, also=Scope.SERVICE)
async def get_logged_slates(
    request: Request,
    placement: Annotated[PlacementName, Query(description="placement of the slates")],
    since: Annotated[Millis, Query(description="time of the first ones, ms since the epoch")],
    until: Annotated[Millis, Query(description="time before which they were made")],
    variant: Annotated[str, Query(max_length=64, description="variant; empty for all")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_LOGGED, description="most slates")] = MOST_LOGGED,
) -> StreamingResponse:
    """The sampled slates of a placement in a period, with the responses that followed.

    The first line has the numbers of slates, each further one is a slate, oldest first. Of more
    than `limit`, they are a random sample. It reads all slates and interactions of the period.
    """
    opened, wanted = parts(request), LogQuery(placement, since, until, variant, limit)
    try:
        async with opened.past_catalogs.turn(True):
            lines = logged_slates(opened.lake, wanted)
            first = await asyncio.to_thread(next, lines)
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return StreamingResponse(chain([first], lines), media_type="application/x-ndjson")


@router.get("/{recommendation_id}", responses=NO_SLATE)
@requires(Scope.OPERATE, also=Scope.SERVICE)
async def get_slate(request: Request, recommendation_id: RecommendationId) -> SlateRecord:
    """The record of a slate in the lake, with its circumstances while these are kept.

    A slate is in the lake seconds after its answer.
    """
    return await _slate(parts(request), recommendation_id)


@router.get(
    "/{recommendation_id}/catalog",
    response_class=StreamingResponse,
    responses=NO_SLATE | NO_CATALOG,
)
@requires(Scope.OPERATE, also=Scope.SERVICE)
async def get_catalog(
    request: Request,
    recommendation_id: RecommendationId,
    since: Annotated[
        str, Query(max_length=64, description="another slate: only the records after its own")
    ] = "",
) -> StreamingResponse:
    """The catalogue that a slate was made from: one JSON array a line, of an item's record.

    It has the record's source, its offset, and the record. With `since`, every record that came
    between the two slates has a line. It reads the whole catalogue's history.
    """
    opened = parts(request)
    ends = await _catalog_ends(opened, recommendation_id)
    try:
        if since:
            begins = await _catalog_ends(opened, since)
            lines = catalog_changes(opened.lake, begins, ends)
        else:
            async with opened.past_catalogs.turn(True):
                past = await asyncio.to_thread(past_catalog, opened.lake, ends)
            lines = past.lines()
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def _catalog_ends(opened: Parts, recommendation_id: str) -> Ends:
    """The positions of the catalogue's records when a slate was made. Raises `ConflictError`."""
    slate = await _slate(opened, recommendation_id)
    if not slate.circumstances:
        raise ConflictError("the slate has no circumstances", code="no_circumstances")
    try:
        return Circumstances.read(slate.circumstances).catalog
    except ValueError as error:
        raise ConflictError(
            f"the slate's circumstances have another form: {error}", code="no_circumstances"
        ) from error


async def _slate(opened: Parts, recommendation_id: str) -> SlateRecord:
    """The record of a slate. Raises `NotFoundError` and `UnavailableError`."""
    at = given_at(recommendation_id)
    try:
        row = (
            await asyncio.to_thread(opened.lake.slate, recommendation_id, at)
            if at is not None
            else None
        )
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    if row is None:
        raise NotFoundError(
            f"the lake has no slate {recommendation_id!r}: a new one is there after some seconds, "
            "and one of an erased visitor no longer",
            code="no_slate",
        )
    row["circumstances"] = orjson.loads(row["circumstances"] or "null")
    return SlateRecord.model_validate(
        {name: each for name, each in row.items() if each is not None}
    )
