"""REST routes about feature views: their declarations, and the features of one entity."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request

from services.features.http import reads
from services.features.http.reads import parts
from services.features.reads import feast
from services.features.reads.view_reads import entity_features, pair_features
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import now_ms
from slipstream.features.views import REQUEST
from slipstream.stores.online import StoreUnavailableError

router = APIRouter(prefix="/v1", tags=["features"])


@router.get("/features/request")
@requires(Scope.READ)
async def request_features(
    request: Request,
    user_id: Annotated[str, Query(min_length=1, max_length=256)],
    item_id: Annotated[str, Query(min_length=1, max_length=256)],
    utc_offset_minutes: Annotated[int, Query(ge=feast.OFFSETS[0], le=feast.OFFSETS[-1])] = 0,
) -> reads.PairFeatures:
    """The features of a visitor and an item at this moment, which is `utc_offset_minutes` off UTC.

    Ids that were never seen have defaults.
    """
    opened = parts(request)
    plan = opened.planner.of_view(REQUEST.name)
    try:
        detail = await pair_features(
            opened.reader, plan, user_id, item_id, utc_offset_minutes, now_ms()
        )
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return reads.PairFeatures.model_validate(detail)


@router.get(
    "/features/{view}/{entity_id:path}",
    response_model_exclude_unset=True,
    responses={404: {"model": Problem, "description": "the entity was never seen"}},
)
@requires(Scope.READ)
async def features(
    request: Request,
    view: Literal["visitor", "session", "visitor_affinity", "item", "item_neighbours"],
    entity_id: Annotated[str, Path(min_length=1, max_length=256)],
) -> reads.EntityFeatures:
    """All features of one view for a visitor or an item at this moment, with its counts."""
    opened = parts(request)
    plan = opened.planner.of_view(view)
    try:
        detail = await entity_features(opened.reader, plan, entity_id, now_ms())
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    if detail is None:
        entity = plan.views[0][0].view.entity
        raise NotFoundError(
            f"no {entity} {entity_id!r} has been seen lately", code=f"unknown_{entity}"
        )
    return reads.EntityFeatures.model_validate(detail)


@router.get("/feature-views")
@requires(Scope.READ)
async def feature_views(request: Request) -> reads.DeclaredViewPage:
    """The declared feature views.

    Each has its entity, join keys, time to live, and features with type, default and description.
    """
    items = [
        reads.DeclaredView(**asdict(view), join_key=view.join_key)
        for view in parts(request).registry.views
    ]
    return reads.DeclaredViewPage(items=items)


@router.get("/feature-services")
@requires(Scope.READ)
async def feature_services(request: Request) -> reads.DeclaredServicePage:
    """The feature services: lists of features, as "view:feature", that are read under one name."""
    items = [
        reads.DeclaredService(**asdict(service)) for service in parts(request).registry.services
    ]
    return reads.DeclaredServicePage(items=items)
