"""The records on the topics, one class for each kind.

All are JSON objects. Readers ignore unknown fields, so a producer may add fields with defaults to a
topic; any other change needs a new topic. Times are integer milliseconds since the epoch in UTC:
`timestamp` is when something happened, `received_at` when it reached us.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Self

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from slipstream.contracts.times import parse_iso
from slipstream.contracts.vocabulary import MAX_ID_BYTES, SHOWN


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
# From 0 to the year 9999. A larger value is in microseconds; seconds are caught at ingestion.
Millis = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]


def _from_iso(value: Any) -> Any:
    try:
        return parse_iso(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("it is neither ISO 8601 nor milliseconds since the epoch") from error


# A time that people write: ISO 8601 (UTC without a zone) or ms. Its schema is that of ms alone: one
# that differs between input and output has two names, which makers of clients take for a duplicate.
Moment = Annotated[
    Millis,
    BeforeValidator(_from_iso),
    Field(description="ms since the epoch; ISO 8601 is taken, too"),
]


class Record(BaseModel):
    """Base of all records on a topic."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def of_checked(cls, **values: Any) -> Self:
        """Make a record from checked values, at a fifth of the cost of validation.

        For code that reads field by field and makes thousands of records a second. Fields that are
        left out have their defaults.
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
    """Defaults of the optional fields; shared by all records, since these are frozen."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }


class Interaction(Record):
    """`interactions.v1`, key `user_id`: an event of a visitor.

    `user_id` is the visitor that the event counts for: the user where known, else the anonymous
    visitor. What a page sends in a user's name without a proof counts for a visitor apart
    (`slipstream.contracts.page_visitors`). `recommendation_id` names the slate that led to the
    event, and `position` the item's place in it (0 is first).

    `maybe_repeat` marks an event that may be on the topic already: an earlier attempt to send it
    had no answer, or the store of message ids was unavailable. As a rule every copy but the first
    is marked (the exceptions: docs/adr/0013), so readers that count look for the first.
    `imported` marks history that was sent on purpose, of any age and perhaps again. Readers that
    count look for its first copy, too (docs/adr/0059).

    `weight` is what the event adds to its item's demand where that is less than its type's weight:
    its visitor has said the same of the item already. `unlearned` marks an event that models, lists
    and the features of items leave out, since its address has brought too many new visitors. It
    counts for its own visitor (docs/adr/0117).
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
    weight: float | None = None
    unlearned: bool = False


class NewInteraction(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An interaction as ingestion writes it, of checked values: the fields of `Interaction`.

    Making and encoding it takes a quarter of the time.
    """

    event_id: str
    event_type: str
    user_id: str
    timestamp: int
    received_at: int
    item_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    value: float | None = None
    recommendation_id: str | None = None
    position: int | None = None
    source: str = ""
    properties: dict[str, Any] = {}
    maybe_repeat: bool = False
    imported: bool = False
    weight: float | None = None
    unlearned: bool = False


class CatalogRecord(Record):
    """`catalog.v1` (items) and `people.v1` (users, identities), key `<entity>:<entity_id>`: the
    whole newest state of an item or a user, or the identity of a visitor.

    An `item_patch` or `user_patch` changes single attributes, null removes one. `available` is None
    in one that leaves it. Its key and its merging: `slipstream.contracts.item_patches`.

    `deleted` is a tombstone: the entity is gone. The history of an item stays. A user is erased,
    with the visitors that were merged into it. `cut` is the erasure's place in the order of events:
    by topic, the end of each source at the time of the request. Records before the cut are erased,
    and those behind it begin a new visitor. `erasure_id` names the receipt, and the record's key
    is `erasure:<erasure_id>`.

    An `identity` record says that the visitor `entity_id` is the user `attributes[MERGED_INTO]`.
    The user's history takes in the visitor's. The first record of a visitor counts, and is never
    undone.

    `by_browser` marks what came with a key that web pages show to everyone. Such a record neither
    links a visitor who has been a user, nor replaces what a server said of a user. `proven` marks
    a page's identity record with a token of the shop's server. Another one gives the visitor's
    history to the user, and nothing of the user's to whoever asks for the visitor.

    Of two records, the later one in the log counts, whatever clocks say. `client_time` marks a
    `timestamp` that the client has told; between two such records it decides.

    `appeared_at` is the time of an item's first record since it was last deleted. The online store
    adds it; records on the topic have none.
    """

    entity: Literal["item", "user", "identity", "item_patch", "user_patch"]
    entity_id: Id
    attributes: dict[str, Any] = Field(default_factory=dict)
    available: bool | None = True
    deleted: bool = False
    timestamp: Millis
    source: str = ""
    by_browser: bool = False
    client_time: bool = False
    erasure_id: str = ""
    cut: dict[str, dict[str, int]] = Field(default_factory=dict)
    appeared_at: Millis | None = None
    proven: bool = False


class ErasedVisitors(Record):
    """`erased-visitors.v1`, key `erasure_id`: visitors that an erasure removes, up to its `cut`.

    Each reader deletes what it keeps of them, and from then on leaves out late records: their
    events made up to `asked_at`, and their slates made up to `slates_until` (docs/adr/0071). A user
    with very many visitors has several records, of which the last one is marked. They may come
    again, when a pass over the lake is done again.
    """

    erasure_id: str
    visitor_ids: list[Id]
    cut: dict[str, dict[str, int]]
    last: bool = True
    asked_at: Millis = 0
    slates_until: Millis = 0


class DeadLetter(Record):
    """`dead-letters.v1`, key `source`: a rejected record, as it came, with the reason.

    A message has the id and the time that ingestion gave it. `by_browser` marks what came with a
    key that web pages show to everyone. `letter_id` names the letter where it is no longer in its
    first place: `slipstream up` keeps letters over a stop. With the code `replayed`, the record
    lists the ids of letters that were sent again.
    """

    source: str
    code: str
    reason: str
    field: str | None = None
    original: Any
    received_at: Millis
    request_id: str = ""
    by_browser: bool = False
    letter_id: str = ""


class FeatureUpdate(Record):
    """`feature-updates.v1`, key `entity_id`: an entity's new features, and the newest event time
    that was applied (`watermark`).

    The first update of a batch has the offset behind the batch's last interaction in each partition
    (`applied`), and the longest time from the acceptance of one of them until it was applied.
    """

    view: Literal["visitor", "item"]
    entity_id: Id
    features: dict[str, float]
    watermark: Millis
    updated_at: Millis
    applied: dict[str, int] = Field(default_factory=dict)
    delay_ms: int | None = None


@dataclass(slots=True)
class SlateItem:
    """A recommended item, placed by its index in the slate. `source` names the retriever that
    contributed most to its score.

    A slate has many, so it is no model: it is made and encoded at a tenth of the cost.
    """

    item_id: str
    score: float
    source: str


class SlateItems(list[Any]):
    """The items of a slate. They keep their JSON, and are not changed."""

    @cached_property
    def json(self) -> bytes:
        """The items as JSON. orjson takes three times as long for dataclasses as for dicts."""
        return orjson.dumps(
            [{"item_id": it.item_id, "score": it.score, "source": it.source} for it in self]
        )

    @cached_property
    def placed_json(self) -> bytes:
        """The items as answers have them: each with its position, from 0."""
        return orjson.dumps(
            [
                {"item_id": it.item_id, "position": at, "score": it.score, "source": it.source}
                for at, it in enumerate(self)
            ]
        )


class Slate(Record):
    """`recommendations.v1`, key `user_id`: an answered slate, with the visitor, the model, the step
    and the features.

    `purpose` is `shown` for a slate that a visitor sees. Others (`ranked`, `batch`, `shadow`) are
    kept, and not counted as impressions.

    `substituted` says why a variant's model did not make the slate: `absent`, `failed`, or
    `resting` after failures. The champion did so, and the slate is not the variant's. `shadow_of`
    is the slate that the visitor saw where a shadow variant made this one.
    """

    recommendation_id: Id
    user_id: Id
    timestamp: Millis
    items: list[SlateItem]
    # The step that gave the first items, such as `model` or `trending`; `none` without items.
    answered_by: str
    model_version: str | None = None
    # The placement's experiment, empty for none, and the variant of the visitor: one of the
    # experiment's, or `holdout`; `champion` without an experiment.
    experiment: str = ""
    variant: str = "champion"
    placement: str = ""
    # The revision of the rules of the placement, or of the one that the variant takes its rules
    # from; and the names of the rules that moved each item.
    placement_revision: int = 0
    rules: list[list[str]] = Field(default_factory=list)
    # The probability of each item at its place, given those before; empty where none was drawn.
    # `sampled` says that the whole order was, and no item for exploration.
    propensities: list[float] = Field(default_factory=list)
    sampled: bool = False
    features: dict[str, float] = Field(default_factory=dict)
    latency_ms: float = 0.0
    purpose: str = SHOWN
    # What the slate was made from, in the form of `Circumstances`; empty where it is not recorded.
    circumstances: dict[str, Any] = Field(default_factory=dict)
    substituted: str = ""
    shadow_of: str = ""


class ModelEventType(StrEnum):
    """A change in the life of a model version.

    `alias_set` and `alias_removed` tell of the alias canary. `deleted` tells of a version that went
    after an erasure, with the aliases that it had.
    """

    REGISTERED = "registered"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    ALIAS_SET = "alias_set"
    ALIAS_REMOVED = "alias_removed"
    DELETED = "deleted"


class ModelEvent(Record):
    """`model-events.v1`, key `model`: a registration, a move of an alias, the gate's refusal, or a
    deletion.

    `reason` gives the cause in words.
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
    """`alerts.v1`, key `rule`: an alert that opened or closed, with evidence for a person to judge.

    `action` and `hold` are requests to training: to start a run, and to promote nothing while the
    alert is open. `timestamp` is when the alert opened or closed. `onset` is the beginning of the
    first period that it was found in: models for what came after it are judged on that.
    """

    alert_id: str
    rule: str
    severity: Severity
    state: Literal["opened", "closed"]
    summary: str
    evidence: dict[str, Any] = Field(default_factory=dict)
    action: Literal["retrain", "none"] = "none"
    hold: bool = False
    onset: Millis | None = None
    timestamp: Millis
