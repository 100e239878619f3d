"""REST routes of features: reads in Feast's shape, and status."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, FailFast, Field, ValidationError

from services.features.reads import feast
from services.features.reads.view_reads import read_entities
from services.features.settings import FeaturesSettings
from services.features.stream.materializer import Materializer
from slipstream.chassis.access.guard import open_to_all, requires
from slipstream.chassis.bodies import LARGE_BYTES, LargeRequests, body_schema, refuse_many_values
from slipstream.chassis.errors import InvalidRequestError, UnavailableError
from slipstream.chassis.hot_routes import HotRoute
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import now_ms
from slipstream.features.views import DType, FeatureRegistry
from slipstream.stores.lake import (
    CATALOG,
    INTERACTIONS,
    RECOMMENDATIONS,
    Lake,
    LakeUnavailableError,
)
from slipstream.stores.online import OnlineReader, StoreUnavailableError

MOST_ROWS = 1_000
# Lists of entities in a read: far more than there are names.
MOST_ENTITIES = 32
# Values of a body, which are counted before it is parsed.
MOST_READ_VALUES = 2 * MOST_ENTITIES * MOST_ROWS
EntityIds = Annotated[list[str | int], Field(min_length=1, max_length=MOST_ROWS), FailFast()]


class OnlineFeaturesRequest(BaseModel):
    """Feast's request for features.

    `features` are named "view:feature"; a `feature_service` may stand instead. `entities` holds
    lists of ids by join key (`user_id`, `item_id`), all of one length. Request-time features also
    read `utc_offset_minutes` from it.
    """

    entities: Annotated[dict[str, EntityIds], Field(max_length=MOST_ENTITIES)]
    features: Annotated[list[str], Field(max_length=200)] = []
    feature_service: str | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class FeatureVector(BaseModel):
    """A feature's value in each row.

    Statuses are PRESENT, NULL_VALUE, NOT_FOUND and OUTSIDE_MAX_AGE.
    """

    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str]


class OnlineFeaturesResponse(BaseModel):
    """Feast's answer: `results[i]` belongs to `metadata.feature_names[i]`."""

    results: list[FeatureVector]
    metadata: dict[str, Any]


FeatureValue = int | float | str | list[str] | list[int] | list[float] | None


class SequenceItem(BaseModel):
    """An event on an item in a visitor's recent sequence; the time is in ms."""

    item_id: str
    event_type: str
    timestamp: int
    value: float | None = None


class ImpressionItem(BaseModel):
    """An item that a visitor was shown, with the time in ms."""

    timestamp: int
    item_id: str


class EntityFeatures(BaseModel):
    """All features of one view for one visitor or item, at the moment of the request.

    `counts` are all events by type, `first_seen` and `last_seen` event times in ms. `sequence` and
    `impressions`, oldest first, belong to the view `visitor` alone.
    """

    view: str
    entity_id: str
    features: dict[str, FeatureValue]
    counts: dict[str, int]
    first_seen: int
    last_seen: int
    sequence: list[SequenceItem] | None = None
    impressions: list[ImpressionItem] | None = None


class PairFeatures(BaseModel):
    """All features of one view for a visitor and an item, at the moment of the request."""

    view: str
    user_id: str
    item_id: str
    features: dict[str, FeatureValue]


class DeclaredFeature(BaseModel):
    """A feature. `default` stands for an entity that was never seen."""

    name: str
    dtype: DType
    default: FeatureValue
    description: str


class DeclaredView(BaseModel):
    """A feature view. `kind` is stored, derived or request; `ttl_s` its time to live in seconds.

    `join_key` is the key of the state that the view is read from.
    """

    name: str
    description: str
    kind: str
    entity: str
    join_key: str
    join_keys: list[str]
    fields: list[DeclaredFeature]
    ttl_s: int


class DeclaredViewPage(BaseModel):
    """All feature views, on one page."""

    items: list[DeclaredView]
    next_cursor: str | None = None


class DeclaredService(BaseModel):
    """A feature service: features, as "view:feature", that are read under one name."""

    name: str
    description: str
    features: list[str]


class DeclaredServicePage(BaseModel):
    """All feature services, on one page."""

    items: list[DeclaredService]
    next_cursor: str | None = None


class LakeStatus(BaseModel):
    """Rows of the lake's tables, and the newest version of `interactions`; null for no table."""

    interactions: int
    catalog: int
    recommendations: int
    version: int | None


class StreamStatus(BaseModel):
    """Progress along the stream.

    `applied` counts records since the start, `lag` those that are not yet read. `watermark` is the
    newest event time applied, in ms. With `caught_up` everything that was sent before the request
    is in Redis and in the lake.
    """

    applied: int
    lag: int
    watermark: int
    caught_up: bool
    lake: LakeStatus


# Models read features on every request.
BY_FEAST: Final = "Feast's clients decide what they send"
feast_router = APIRouter(tags=["feast"], route_class=taking_any_name(BY_FEAST, HotRoute))
router = APIRouter(tags=["features"])

# A read of more values, which are rows times features, waits while another such one is worked at.
_LARGE_VALUES: Final = 5_000


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    settings: FeaturesSettings
    reader: OnlineReader
    lake: Lake
    materializer: Materializer
    registry: FeatureRegistry
    planner: feast.Planner
    reads: LargeRequests = field(default_factory=LargeRequests)
    past_catalogs: LargeRequests = field(default_factory=LargeRequests)


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


@feast_router.post(
    "/get-online-features",
    response_model=OnlineFeaturesResponse,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body_schema(OnlineFeaturesRequest)}},
        }
    },
    responses={status: {"model": Problem} for status in (400, 413, 422, 503)},
)
@requires(Scope.READ)
async def get_online_features(request: Request) -> Response:
    """Read features as Feast's server does: one result per join key and feature, over all rows."""
    raw = await request.body()
    opened = parts(request)
    # Parsed, a large body needs many times its size, so that it holds its turn to the end.
    large = len(raw) > LARGE_BYTES
    async with opened.reads.turn(large):
        return await _read(opened, raw, large)


async def _read(opened: Parts, raw: bytes, has_turn: bool) -> Response:
    body, planner = _parsed(raw), opened.planner
    try:
        if body.feature_service is not None:
            plan = planner.of_service(body.feature_service, body.full_feature_names)
        else:
            plan = planner.of(tuple(body.features), body.full_feature_names)
        rows = feast.rows_of(body.entities, plan)
        count = len(next(iter(rows.values())))
        offsets = feast.offsets_of(body.entities, count)
        entities = await read_entities(opened.reader, plan, rows)
        many = count * len(plan.columns) > _LARGE_VALUES
        async with opened.reads.turn(many and not has_turn):
            answer = await feast.answer(
                plan,
                rows,
                offsets,
                entities,
                now_ms(),
                metadata=body.include_feature_view_version_metadata,
            )
    except feast.ReadRefusedError as error:
        return refused(error, error.code, error.feast_class)
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return Response(answer, media_type="application/json")


def _parsed(raw: bytes) -> OnlineFeaturesRequest:
    """The parsed body.

    Raises `RequestValidationError` where FastAPI would, and `TooLargeError` for a body of too many
    values.
    """
    refuse_many_values(raw, MOST_READ_VALUES, "ask in several requests")
    try:
        return OnlineFeaturesRequest.model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from None


# HTTP statuses by Feast's exception class, where Feast's clients read the status.
_FEAST_STATUS: Final = {"FeatureViewNotFoundException": 404, "FeatureServiceNotFoundException": 404}


def refused(error: ValueError, code: str, feast_class: str, status: int = 400) -> Response:
    """An error response in Feast's form, from which Feast's clients make their exception.

    The body is a JSON string that holds an object with `module`, `class` and `message`, and our
    `code`. Errors for which Feast has no class get our usual error body.
    """
    if not feast_class:
        raise InvalidRequestError(str(error), code=code) from error
    fault = {
        "module": "feast.errors",
        "class": feast_class,
        "message": str(error),
        "code": code,
        "request_id": request_id.get(),
    }
    text = orjson.dumps(fault).decode()
    return Response(
        orjson.dumps(text), _FEAST_STATUS.get(feast_class, status), media_type="application/json"
    )


@router.get("/v1/status")
@requires(Scope.READ)
def status(request: Request) -> StreamStatus:
    """Progress of the service along the stream, read from the broker and the lake now."""
    opened = parts(request)
    lake, progress = opened.lake, opened.materializer.progress()
    try:
        rows = {table: lake.count(table) for table in (INTERACTIONS, CATALOG, RECOMMENDATIONS)}
        version = lake.version(INTERACTIONS)
    except LakeUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return StreamStatus(**asdict(progress), lake=LakeStatus(**rows, version=version))


health = APIRouter(tags=["health"], route_class=taking_any_name(BY_FEAST))


@health.get("/health", response_class=Response)
@open_to_all
async def feast_health() -> Response:
    """Liveness at the path that Feast's clients ask; the body is empty, as Feast's is."""
    return Response()
