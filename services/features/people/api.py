"""The REST route of a user's export."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse

from services.features.api import parts
from services.features.history.export import exported
from slipstream.chassis.access.demands import requires
from slipstream.chassis.errors import UnavailableError
from slipstream.contracts.access import Scope
from slipstream.stores.lake import CATALOG, LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError

router = APIRouter(tags=["people"])


@router.get("/v1/users/{user_id}/export", response_class=StreamingResponse)
@requires(Scope.ADMIN)
async def export_user(
    request: Request, user_id: Annotated[str, Path(min_length=1, max_length=256)]
) -> StreamingResponse:
    """What Redis and the lake hold of a user and of the visitors that are this user.

    One JSON object a line. It reads the whole lake once.
    """
    opened = parts(request)
    try:
        state = await opened.reader.visitor(user_id)
        await asyncio.to_thread(opened.lake.version, CATALOG)
    except (LakeUnavailableError, StoreUnavailableError) as error:
        raise UnavailableError(str(error)) from error
    lines = exported(opened.lake, user_id, state)
    return StreamingResponse(lines, media_type="application/x-ndjson")
