"""Queries and bodies of serving's routes, and the cursors of their pages.

A cursor holds the items of the pages before, which the next one leaves out. So a page repeats
nothing, whatever the visitor did since, and no replica keeps anything.
"""

import base64
import binascii
import zlib
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from slipstream.contracts.events import EventType, Id, Millis
from slipstream.contracts.placements import BoostRule
from slipstream.contracts.vocabulary import MAX_ID_BYTES
from slipstream.filters.expressions import FilterText
from slipstream.slates.catalogue.columns import LONGEST_CATEGORY
from slipstream.slates.slate_request import MOST_ITEMS

# Items of all pages before, from which no further page is given.
MOST_PAGED: Final = 500
LONGEST: Final = 16_384
# The forms of a cursor: as it is, and packed. Packing takes longer than it is worth for a page.
_PLAIN: Final = "1"
_PACKED: Final = "2"
_LONG: Final = 500
_MOST_BYTES: Final = MOST_PAGED * (6 * MAX_ID_BYTES + 3) + 2


class CursorError(ValueError):
    """A text that no answer gave as a cursor."""


def next_cursor(before: Collection[str], page: Sequence[str], n: int) -> str | None:
    """The cursor of the page after this one; None where there is none.

    Args:
        n: Requested length. A shorter page is the last one.
    """
    ids = [*before, *page]
    if len(page) < n or len(ids) > MOST_PAGED:
        return None
    text, form = orjson.dumps(ids), _PLAIN
    if len(text) > _LONG:
        text, form = zlib.compress(text, 1), _PACKED
    cursor = form + base64.urlsafe_b64encode(text).decode().rstrip("=")
    return cursor if len(cursor) <= LONGEST else None


def items_before(cursor: str) -> tuple[str, ...]:
    """The items of the pages before. Raises `CursorError`."""
    form, text = cursor[:1], cursor[1:]
    if form not in (_PLAIN, _PACKED):
        raise CursorError("unknown form")
    try:
        given = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        ids = orjson.loads(given if form == _PLAIN else _unpacked(given))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise CursorError(str(error)) from None
    if (
        not isinstance(ids, list)
        or len(ids) > MOST_PAGED
        or not all(isinstance(each, str) for each in ids)
    ):
        raise CursorError("not a list of ids")
    return tuple(ids)


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, _MOST_BYTES)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise CursorError("cut off, or too long")
    return text


MOST_RANKED = 1_000
MOST_EXCLUDED = 500
MOST_EVENTS = 1_000
MOST_BOOSTS = 20
MOST_FIELDS = 50
MOST_CONTEXT = 50
# Most features of an item that is to be ranked, and most categories in a list of them.
MOST_FEATURES = 20
MOST_IN_LIST = 20


def _of_an_answer(cursor: str) -> str:
    if cursor:
        try:
            items_before(cursor)
        except CursorError:
            raise PydanticCustomError(
                "invalid_cursor", "no answer gave this cursor; leave it out for the first page"
            ) from None
    return cursor


def _parted(names: Any) -> Any:
    """Names that commas part; anything but a list of texts stays, to be refused."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return names
    return [part.strip() for name in names for part in name.split(",")]


Share = Annotated[float, Field(ge=0, le=1)]
Attribute = Annotated[str, Field(min_length=1, max_length=64)]
# Browsers and many APIs write a list into one parameter: fields=title,price.
Attributes = Annotated[
    list[Attribute],
    BeforeValidator(_parted),
    Field(max_length=MOST_FIELDS),
]
Category = Annotated[str, Field(max_length=LONGEST_CATEGORY)]
FeatureValue = (
    None
    | bool
    | Annotated[float, Field(allow_inf_nan=False)]
    | Category
    | Annotated[list[Category], Field(max_length=MOST_IN_LIST)]
)
ContextValue = bool | float | Annotated[str, Field(max_length=256)]


class SlateQuery(BaseModel):
    """The query of every GET that answers a slate.

    It is one model, since FastAPI takes half as long for it as for its fields.
    """

    n: int = Field(10, ge=1, le=MOST_ITEMS, description="number of items")
    attributes: bool = Field(False, description="with each item's attributes from the catalogue")
    fields: Attributes = Field(
        default_factory=list,
        description="with these attributes alone; a comma parts names, too",
    )
    exclude: list[Id] = Field(
        default_factory=list, max_length=MOST_EXCLUDED, description="item ids that are not wanted"
    )
    placement: str = Field(
        "", max_length=64, description="place on the page; its rules apply (docs/placements.md)"
    )
    filter: FilterText = ""
    cursor: Annotated[str, AfterValidator(_of_an_answer)] = Field(
        "", max_length=LONGEST, description="`next_cursor` of the page before"
    )
    diversity: Share | None = Field(
        None, description="0: the best items, 1: the most varied ones; else the placement's"
    )


class ItemSlateQuery(SlateQuery):
    """The same for slates that do not depend on the visitor."""

    user_id: Id | None = Field(None, description="the visitor who sees the slate, for attribution")


class SimilarQuery(ItemSlateQuery):
    """The query of similar items."""

    personal: bool = Field(
        False, description="with `user_id`: the most similar items, in this visitor's order"
    )


class PersonalQuery(SlateQuery):
    """The same for slates that the model makes for a visitor."""

    exploration: Share | None = Field(
        None, description="share of places for items of which little is known; else the placement's"
    )
    deadline_ms: int | None = Field(
        None,
        ge=1,
        le=60_000,
        description="time after which the answer is of no use: where the model would take longer, "
        "trending items answer",
    )
    explain: bool = Field(
        False, description="with the reasons of each item, and an account of each rule"
    )


class Boost(BaseModel, extra="forbid"):
    """A factor of the scores of the items that meet a filter; one below 1 makes them sink."""

    filter: Annotated[FilterText, Field(min_length=1)]
    factor: float = Field(gt=0, le=1_000)

    def rule(self, place: int) -> BoostRule:
        """The boost as a rule of this request; `place` counts from 1."""
        action = "boost" if self.factor >= 1 else "bury"
        name = f"request {place}"
        return BoostRule(name=name, filter=self.filter, action=action, factor=self.factor)


class PersonalBody(PersonalQuery, extra="forbid"):
    """The body of a request for a visitor: the fields of a query, and what only a body can hold."""

    context: dict[Attribute, ContextValue] = Field(
        default_factory=dict,
        max_length=MOST_CONTEXT,
        description="fields of the request that the placement's rules may ask for in `when`",
    )
    boosts: list[Boost] = Field(default_factory=list, max_length=MOST_BOOSTS)


class SessionEvent(BaseModel, extra="forbid"):
    """An event of a visitor.

    Without `timestamp`, the order of the list is the order of time.
    """

    item_id: Id
    event_type: EventType = "view"
    timestamp: Millis | None = None
    value: float | None = None


class SlateBody(PersonalBody):
    """The query of `GET /v1/recommendations/{user_id}` as a body, and more."""

    user_id: Id = Field(description="the visitor; an unknown one gets trending items")
    events: list[SessionEvent] = Field(
        default_factory=list,
        max_length=MOST_EVENTS,
        description="the visitor's newest events, which need not have been sent to ingestion",
    )


class SessionRequest(PersonalBody):
    """A session, oldest event first, of which the last 100 count."""

    events: list[SessionEvent] = Field(max_length=MOST_EVENTS)
    anonymous_id: Id | None = Field(
        None, description="the visitor who sees the slate, for attribution"
    )


class RankedItem(BaseModel, extra="forbid"):
    """An item to be ranked, with what the caller alone knows of it now."""

    item_id: Id
    features: dict[Attribute, FeatureValue] = Field(
        default_factory=dict,
        max_length=MOST_FEATURES,
        description="attributes of the moment, such as a price or a distance: filter, boosts and "
        "rules take them instead of the catalogue's of the same names; null: it has none",
    )


def _with_item_id(item: Any) -> Any:
    return {"item_id": item} if isinstance(item, str) else item


class RankRequest(BaseModel, extra="forbid"):
    """A list of items to put in order for a visitor."""

    user_id: Id
    items: list[
        Annotated[
            RankedItem, BeforeValidator(_with_item_id, json_schema_input_type=Id | RankedItem)
        ]
    ] = Field(
        min_length=1,
        max_length=MOST_RANKED,
        description="ids of items, or items with features; of an item given twice the first counts",
    )
    attributes: bool = False
    placement: str = Field("", max_length=64)
    rules: bool = Field(False, description="whether the placement's rules apply to the list")
    filter: FilterText = ""
    boosts: list[Boost] = Field(default_factory=list, max_length=MOST_BOOSTS)
    context: dict[Attribute, ContextValue] = Field(
        default_factory=dict, max_length=MOST_CONTEXT, description="fields that rules may ask for"
    )
    explain: bool = Field(False, description="with an account of each rule")
    shown: bool = Field(False, description="whether the visitor sees the list: an impression")

    @model_validator(mode="after")
    def _of_a_placement(self) -> Self:
        if self.rules and not self.placement:
            raise ValueError("rules are those of a placement: name one")
        return self
