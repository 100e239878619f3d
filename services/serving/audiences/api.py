"""The route of an item's audience."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from services.serving.api import NOT_FOUND, PathId, json_response, parts, require_item
from services.serving.audiences.audiences import AudienceRequest
from services.serving.audiences.bodies import AudienceQuery, AudienceResponse, audience_body
from slipstream.chassis.access.demands import requires
from slipstream.chassis.access.guard import principal_of
from slipstream.chassis.direct_routes import DirectRoute
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem

_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": AudienceResponse},
    422: {"model": Problem},
}

router = APIRouter(
    prefix="/v1",
    tags=["audiences"],
    default_response_class=Response,
    route_class=DirectRoute,
)


@router.get("/users-for-item/{item_id:path}", responses=_ANSWER | NOT_FOUND)
@requires(Scope.READ)
async def users_for_item(
    request: Request, item_id: PathId, query: Annotated[AudienceQuery, Query()]
) -> Response:
    """The `n` users whom this item would interest most, of those who were active last.

    Each active visitor counts as a list of the key. 404 for an item that neither the model nor the
    catalogue knows.
    """
    opened = parts(request)
    require_item(opened, item_id)
    opened.rates.take(principal_of(request).name, query.among)
    wanted = AudienceRequest(item_id, query.n, query.among, query.include_met)
    audience = await opened.pipeline.audiences.of(wanted)
    return json_response(audience_body(item_id, audience))
