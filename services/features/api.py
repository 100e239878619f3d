"""Routes of features."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from services.features import feature_reads
from services.features.materializer import Materializer, now_ms
from slipstream.chassis.errors import InvalidRequestError, NotFoundError, UnavailableError
from slipstream.features.views import VIEWS
from slipstream.stores.lake import CATALOG, INTERACTIONS, RECOMMENDATIONS, Lake, LakeUnavailableError
from slipstream.stores.online import OnlineReader, StoreUnavailableError

router = APIRouter(tags=["features"])

EntityId = Annotated[str, Path(min_length=1, max_length=256)]
MOST_ROWS = 1_000


class OnlineFeaturesRequest(BaseModel):
    """Feast's request: `features` as "view:feature", `entities` as lists of ids by join key (`user_id`, `item_id`)."""

    features: Annotated[list[str], Field(min_length=1, max_length=200)]
    entities: dict[str, Annotated[list[str | int], Field(min_length=1, max_length=MOST_ROWS)]]
    full_feature_names: bool = False


class FeatureVector(BaseModel):
    """One feature over all rows."""

    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str]


class OnlineFeaturesResponse(BaseModel):
    """Feast's answer: `results[i]` belongs to `metadata.feature_names[i]`."""

    metadata: dict[str, list[str]]
    results: list[FeatureVector]


@router.get("/v1/features/{view}/{entity_id:path}", responses={404: {"description": "the entity was never seen"}})
async def features(request: Request, view: Literal["visitor", "item"], entity_id: EntityId) -> dict[str, Any]:
    """All that is kept of a visitor or an item, with its features at this moment."""
    read = feature_reads.visitor_detail if view == "visitor" else feature_reads.item_detail
    try:
        detail = await read(request.app.state.reader, entity_id, now_ms())
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    if detail is None:
        raise NotFoundError(f"no {view} {entity_id!r} has been seen lately", code=f"unknown_{view}")
    return detail


@router.post("/get-online-features")
async def get_online_features(request: Request, body: OnlineFeaturesRequest) -> OnlineFeaturesResponse:
    """Feast's feature server: one result for each join key and feature, over all entities asked."""
    reader: OnlineReader = request.app.state.reader
    try:
        columns = await feature_reads.online_features(
            reader, body.features, body.entities, now_ms(), full_names=body.full_feature_names
        )
    except feature_reads.UnknownFeatureError as error:
        raise InvalidRequestError(str(error), code="unknown_feature") from error
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    vectors = [FeatureVector(values=c.values, statuses=c.statuses, event_timestamps=c.event_timestamps) for c in columns]
    return OnlineFeaturesResponse(metadata={"feature_names": [column.name for column in columns]}, results=vectors)


@router.get("/v1/feature-views")
async def feature_views() -> dict[str, Any]:
    """The feature views as they are declared: entity, join key, features with type, default and description, time to live."""
    return {"items": [asdict(view) for view in VIEWS], "next_cursor": None}


@router.get("/v1/status")
def status(request: Request) -> dict[str, Any]:
    """How far the stream has been followed; asked of the broker and the lake now."""
    materializer: Materializer = request.app.state.materializer
    lake: Lake = request.app.state.lake
    progress = materializer.progress()
    try:
        rows = {table: lake.count(table) for table in (INTERACTIONS, CATALOG, RECOMMENDATIONS)}
        version = lake.version(INTERACTIONS)
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return {**asdict(progress), "lake": {**rows, "version": version}}


health = APIRouter(tags=["health"])


@health.get("/health")
async def feast_health() -> dict[str, str]:
    """The process is up (where Feast's clients look)."""
    return {"status": "live"}
