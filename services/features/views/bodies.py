"""Answers of the routes of features, as the OpenAPI document has them."""

from pydantic import BaseModel

from slipstream.features.views import DType

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
