"""REST routes about one person: what is kept of a user, and what was erased."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse

from services.features.api import parts
from services.features.history.export import exported
from services.features.history.receipts import receipt, topics_left
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.log_ends import log_beginnings
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import ErasureState, Problem
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import PERSONAL
from slipstream.stores.lake import CATALOG, LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError

router = APIRouter(tags=["people"])
NO_ERASURE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "no_erasure"}}


@router.get("/v1/users/{user_id}/export", response_class=StreamingResponse)
@requires(Scope.ADMIN)
async def export_user(
    request: Request, user_id: Annotated[str, Path(min_length=1, max_length=256)]
) -> StreamingResponse:
    """What Redis and the lake hold of a user and of the visitors that are this user.

    One JSON object a line. It reads the whole lake, and the catalogue once for each step of links.
    """
    opened = parts(request)
    try:
        state = await opened.reader.visitor(user_id)
        await asyncio.to_thread(opened.lake.version, CATALOG)
    except (LakeUnavailableError, StoreUnavailableError) as error:
        raise UnavailableError(str(error)) from error
    lines = exported(opened.lake, user_id, state)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/v1/erasures/{erasure_id}", responses=NO_ERASURE)
@requires(Scope.READ)
def erasure(
    request: Request, erasure_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> ErasureState:
    """An erasure by its id: waiting, or done when, and what is left of it. It names nobody.

    One that was just asked for is not found until features has read it.
    """
    opened = parts(request)
    try:
        found = receipt(opened.lake, erasure_id, now_ms())
        if found is None:
            raise NotFoundError(f"no erasure {erasure_id} is known", code="no_erasure")
        state, ends = found
        kafka, namespace = opened.settings.kafka, opened.settings.namespace
        beginnings = log_beginnings(kafka, namespace, PERSONAL) if ends else {}
        written_at = request.app.state.redis_files.written_at() if ends else None
    except (LakeUnavailableError, BrokerUnavailableError, StoreUnavailableError) as error:
        raise UnavailableError(str(error)) from error
    left = topics_left(ends, beginnings)
    return state.model_copy(update={"topics_left": left, "redis_written_at": written_at})
