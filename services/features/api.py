"""REST routes of features.

The routes of Feast's feature server take and return the bodies that Feast's clients send and read.
"""

from dataclasses import asdict, dataclass, field
from typing import Final, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from services.features.feast_bodies import (
    MOST_READ_VALUES,
    OnlineFeaturesRequest,
    OnlineFeaturesResponse,
    described,
)
from services.features.reads import feast
from services.features.reads.view_reads import read_entities
from services.features.settings import FeaturesSettings
from services.features.stream.materializer import Materializer
from services.features.views.bodies import LakeStatus, StreamStatus
from slipstream.broker.producer import Producer
from slipstream.chassis.access.guard import open_to_all, requires
from slipstream.chassis.bodies import refuse_many_values
from slipstream.chassis.errors import InvalidRequestError, UnavailableError
from slipstream.chassis.hot_routes import HotRoute
from slipstream.chassis.logging import request_id
from slipstream.chassis.slices import LARGE_BYTES, LargeRequests
from slipstream.contracts.access import Scope
from slipstream.contracts.times import now_ms
from slipstream.features.views import FeatureRegistry
from slipstream.stores.lake import (
    CATALOG,
    INTERACTIONS,
    RECOMMENDATIONS,
    Lake,
    LakeUnavailableError,
)
from slipstream.stores.online import OnlineReader, StoreUnavailableError

# Models read features on every request.
feast_router = APIRouter(tags=["feast"], route_class=HotRoute)
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
    producer: Producer
    registry: FeatureRegistry
    planner: feast.Planner
    reads: LargeRequests = field(default_factory=LargeRequests)
    # Pushes take turns apart, since a push waits for the broker, and no read does.
    pushes: LargeRequests = field(default_factory=LargeRequests)
    past_catalogs: LargeRequests = field(default_factory=LargeRequests)


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


@feast_router.post(
    "/get-online-features",
    response_model=OnlineFeaturesResponse,
    **described(OnlineFeaturesRequest),
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
    body, planner = parsed(OnlineFeaturesRequest, raw, MOST_READ_VALUES), opened.planner
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


B = TypeVar("B", bound=BaseModel)


def parsed(model: type[B], raw: bytes, most_values: int) -> B:
    """The parsed body.

    Raises `RequestValidationError` where FastAPI would, and `TooLargeError` for a body of more than
    `most_values` values.
    """
    refuse_many_values(raw, most_values, "ask in several requests")
    try:
        return model.model_validate_json(raw)
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


health = APIRouter(tags=["health"])


@health.get("/health", response_class=Response)
@open_to_all
async def feast_health() -> Response:
    """Liveness at the path that Feast's clients ask; the body is empty, as Feast's is."""
    return Response()
