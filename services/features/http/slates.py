"""REST routes about one slate: its record in the lake, and the catalogue that it was made from."""

import asyncio
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse

from services.features.history.lake_snapshot import past_catalog
from services.features.http.reads import Parts, parts
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import ConflictError, NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.circumstances import Circumstances
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
async def get_catalog(request: Request, recommendation_id: RecommendationId) -> StreamingResponse:
    """The catalogue that a slate was made from: one JSON array a line, of an item's record.

    It has the record's source, its offset, and the record. It reads the whole catalogue's history.
    """
    opened = parts(request)
    slate = await _slate(opened, recommendation_id)
    if not slate.circumstances:
        raise ConflictError("the slate has no circumstances", code="no_circumstances")
    try:
        ends = Circumstances.read(slate.circumstances).catalog
    except ValueError as error:
        raise ConflictError(
            f"the slate's circumstances have another form: {error}", code="no_circumstances"
        ) from error
    try:
        async with opened.past_catalogs.turn(True):
            past = await asyncio.to_thread(past_catalog, opened.lake, ends)
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return StreamingResponse(past.lines(), media_type="application/x-ndjson")


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
