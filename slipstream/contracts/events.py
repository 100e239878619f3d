"""The records on the topics, one class a kind. All are JSON objects; unknown fields are ignored, so
that a producer may add one (adding keeps the topic's major version, anything else needs a new
topic).

Times are integer milliseconds since the epoch in UTC. `timestamp` is when the thing happened,
`received_at` when we heard.
"""

from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from slipstream.contracts.vocabulary import MAX_ID_BYTES


def _short_enough(value: str) -> str:
    if len(value) * 4 > MAX_ID_BYTES and len(value.encode()) > MAX_ID_BYTES:
        raise ValueError(f"an id may have at most {MAX_ID_BYTES} bytes")
    if "\x00" in value:
        raise ValueError("an id may not have a NUL character")
    return value


Id = Annotated[str, Field(min_length=1), AfterValidator(_short_enough)]
# Lower-case token: view, click, cart, purchase, rate, search, impression, or a custom type of the
# same form.
EventType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
# 0 to year 9999: more is a wrong unit (seconds are caught by a check at ingestion, microseconds
# here).
Millis = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]


class Record(BaseModel):
    """Base of all records on a topic."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def of_checked(cls, **values: Any) -> Self:
        """A record of values that have been checked to be as declared, at a fifth of what
        validation costs. Missing ones are at their default. For who makes thousands a second of
        what it has just read field by field.
        """
        record = cls.__new__(cls)
        set_attribute = object.__setattr__
        set_attribute(record, "__dict__", {**_defaults(cls), **values})
        set_attribute(record, "__pydantic_fields_set__", set(values))
        set_attribute(record, "__pydantic_extra__", None)
        set_attribute(record, "__pydantic_private__", None)
        return record


@cache
def _defaults(kind: type[Record]) -> dict[str, Any]:
    """The fields that need not be given. Shared by all records: these are frozen."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }


class Interaction(Record):
    """`interactions.v1`, key `user_id`: something that a visitor did.

    `user_id` is the visitor that the event counts for: the user where known, else the anonymous
    visitor. `recommendation_id` names the slate that led here, `position` the place in it (0 is
    first).

    `maybe_repeat`: ingestion does not know whether this event is on the topic already (an earlier
    attempt to send it had no answer, or the store of message ids was away). As a rule every copy
    but the first says so (the exceptions: docs/adr/0013); who counts, looks for the first.
    `imported`: history sent on purpose, which may be as old as it likes.
    """

    event_id: Id
    event_type: EventType
    user_id: Id
    timestamp: Millis
    received_at: Millis
    item_id: Id | None = None
    anonymous_id: Id | None = None
    session_id: Id | None = None
    value: float | None = None
    recommendation_id: Id | None = None
    position: Annotated[int, Field(ge=0)] | None = None
    source: str = ""
    properties: dict[str, Any] = Field(default_factory=dict)
    maybe_repeat: bool = False
    imported: bool = False


class CatalogRecord(Record):
    """`catalog.v1`, key `<entity>:<entity_id>`: the newest state of an item or a user, whole; or
    who a visitor is.

    `deleted` is a tombstone: the entity is gone from `timestamp` on. Of an item the history stays;
    of a user it goes, too (erasure: its state, its rows in the lake, and those of the visitors that
    were merged into it). An `identity` says that the visitor `entity_id` is the user
    `attributes[MERGED_INTO]`: the history of the one is part of the other's from now on. The first
    one told of a visitor counts; it is never undone.
    """

    entity: Literal["item", "user", "identity"]
    entity_id: Id
    attributes: dict[str, Any] = Field(default_factory=dict)
    available: bool = True
    deleted: bool = False
    timestamp: Millis
    source: str = ""


class DeadLetter(Record):
    """`dead-letters.v1`, key `source`: a record that could not be taken, with the reason, and the
    original as it came.
    """

    source: str
    code: str
    reason: str
    field: str | None = None
    original: Any
    received_at: Millis
    request_id: str = ""


class FeatureUpdate(Record):
    """`feature-updates.v1`, key `entity_id`: what changed for an entity, and how far event time has
    come.
    """

    view: Literal["visitor", "item"]
    entity_id: Id
    features: dict[str, float]
    watermark: Millis
    updated_at: Millis


class SlateItem(Record):
    """One recommended item: its place is its index in the slate. `source` names the retriever that
    spoke most for it.
    """

    item_id: str
    score: float
    source: str


class Slate(Record):
    """`recommendations.v1`, key `user_id`: what was answered to whom, by which model and step, on
    which features.
    """

    recommendation_id: Id
    user_id: Id
    timestamp: Millis
    items: list[SlateItem]
    # which step of the fallback chain answered: `model`, `similar`, `trending` or `none`
    answered_by: str
    model_version: str | None = None
    variant: str = "champion"
    placement: str = ""
    features: dict[str, float] = Field(default_factory=dict)
    latency_ms: float = 0.0


class ModelEventType(StrEnum):
    """What can happen to a model version."""

    REGISTERED = "registered"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


class ModelEvent(Record):
    """`model-events.v1`, key `model`: a version was registered, an alias moved or the gate refused;
    `reason` in words.
    """

    event: ModelEventType
    model: str = "recommender"
    version: str
    alias: str | None = None
    previous: str | None = None
    reason: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    timestamp: Millis


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class AlertEvent(Record):
    """`alerts.v1`, key `rule`: an alert opened or closed, with the evidence that a person needs to
    judge it.
    """

    alert_id: str
    rule: str
    severity: Severity
    state: Literal["opened", "closed"]
    summary: str
    evidence: dict[str, Any] = Field(default_factory=dict)
    # what is asked of training: `retrain`, or nothing
    action: Literal["retrain", "none"] = "none"
    timestamp: Millis
