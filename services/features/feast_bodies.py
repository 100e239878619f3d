"""Bodies of Feast's feature server: what its clients send and read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, FailFast, Field

from services.features import pushes
from slipstream.chassis.bodies import body_schema
from slipstream.contracts.rest import Problem

MOST_ROWS = 1_000
# Lists of entities in a read, and columns in a push: far more than there are names.
MOST_ENTITIES, MOST_COLUMNS = 32, 1_000
# Values of a body, which are counted before it is parsed.
MOST_READ_VALUES = 2 * MOST_ENTITIES * MOST_ROWS
MOST_PUSH_VALUES = 50 * pushes.MAX_ROWS
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


class PushRequest(BaseModel):
    """Feast's push request: columns of equal length for `interactions`, `items` or `users`.

    Rows reach the online store and the lake whatever `to` says, since both follow the stream. The
    last two fields change nothing.
    """

    push_source_name: str
    df: Annotated[dict[str, list[Any]], Field(max_length=MOST_COLUMNS)]
    to: Literal["online", "offline", "online_and_offline"] = "online"
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class WriteRequest(BaseModel):
    """The request by which Feast's SDK pushes and writes: columns for `interactions`, `items` or
    `users`, which its feature view is named after.

    Column `created` is Feast's own. The last two fields change nothing.
    """

    feature_view_name: str
    df: Annotated[dict[str, list[Any]], Field(max_length=MOST_COLUMNS)]
    allow_registry_cache: bool = True
    transform_on_write: bool = True


def described(body: type[BaseModel]) -> dict[str, Any]:
    """Arguments of a hot route that document its request body and its errors in OpenAPI."""
    content = {"application/json": {"schema": body_schema(body)}}
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "responses": {status: {"model": Problem} for status in (400, 413, 422, 503)},
    }
