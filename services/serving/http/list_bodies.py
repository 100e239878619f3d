"""Queries and bodies of the routes of lists and audiences."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from services.serving.http.bodies import MOST_EXCLUDED, ItemSlateQuery
from services.serving.request.audiences import Audience
from slipstream.contracts.events import Id
from slipstream.contracts.placements import MOST_RULES
from slipstream.contracts.rest import RecommendationResponse
from slipstream.filters.expressions import FilterText
from slipstream.slates.slate_request import MOST_ITEMS

# Most items of a requested cart.
MOST_IN_CART = 50
# Most visitors of a batch, and most items of all its lists together.
MOST_VISITORS = 1_000
MOST_BATCH_ITEMS = 20_000


class PopularQuery(ItemSlateQuery):
    """The query of popular items."""

    window: Literal["hour", "day", "week", "month"] = Field(
        "week", description="period of demand; the weight of an event halves in half of it"
    )


class CartRequest(ItemSlateQuery, extra="forbid"):
    """A request for the companions of a cart, or of any items."""

    items: list[Id] = Field(min_length=1, max_length=MOST_IN_CART)


class BatchRequest(BaseModel, extra="forbid"):
    """A request for the lists of many visitors, to be shown later or elsewhere."""

    user_ids: list[Id] = Field(min_length=1, max_length=MOST_VISITORS)
    n: int = Field(10, ge=1, le=MOST_ITEMS)
    exclude: list[Id] = Field(default_factory=list, max_length=MOST_EXCLUDED)
    placement: str = Field("", max_length=64)
    filter: FilterText = ""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.n * len(self.user_ids) > MOST_BATCH_ITEMS:
            raise ValueError(
                f"n times the number of visitors is at most {MOST_BATCH_ITEMS:,}; "
                "ask for fewer items, or in several requests"
            )
        return self


class BatchResponse(BaseModel):
    """A list for each visitor, in the order asked."""

    lists: list[RecommendationResponse]


class CountedRule(BaseModel, extra="forbid"):
    """What a rule is about: the items that meet `filter`, and an attribute that it caps."""

    name: str = Field(max_length=64)
    filter: FilterText = ""
    attribute: str = Field("", max_length=64)


class RulesBody(BaseModel, extra="forbid"):
    """Rules with items that are to be counted."""

    rules: list[CountedRule] = Field(max_length=MOST_RULES)


class SearchQuery(BaseModel):
    """The query of the search of items."""

    q: str = Field(
        min_length=1,
        max_length=200,
        description="words, or their beginnings, of title, brand and category; or an item's id",
    )
    n: int = Field(20, ge=1, le=100, description="most items")


class FoundItem(BaseModel):
    """An item as people recognise it; null for an attribute that it does not have.

    `available` says whether it may be shown now.
    """

    item_id: Id
    title: str | None
    category: str | None
    brand: str | None
    color: str | None
    price: float | None
    available: bool


class FoundItems(BaseModel):
    """The items with all words of a query, best first."""

    items: list[FoundItem]


# Most users of an answer, and most active visitors that are looked at for it.
MOST_USERS = 1_000
MOST_AMONG = 5_000


class AudienceQuery(BaseModel):
    """The query of an item's audience."""

    n: int = Field(10, ge=1, le=MOST_USERS, description="number of users")
    among: int = Field(
        1_000,
        ge=1,
        le=MOST_AMONG,
        description="number of visitors to search, those who were active last",
    )
    include_met: bool = Field(
        False, description="also users who have had to do with the item lately"
    )


class InterestedUser(BaseModel):
    """A user in the likely audience of an item.

    Attributes:
        user_id: The user, or a visitor who is none.
        score: The item's probability among it and the user's own 200 best items.
        place: Its place there, from 1; null where the 200 are all better.
        active_at: Time of the newest event, in ms.
    """

    user_id: Id
    score: float
    place: int | None
    active_at: int


class AudienceResponse(BaseModel):
    """The likely audience of an item, best first.

    Attributes:
        item_id: The item.
        users: The users.
        looked_at: Number of users that were looked at.
        already_met: Number of those who had to do with the item, and were left out for that.
        active_since: Time of the newest event of the one who was active the longest ago, in ms.
        active_until: Time of the newest event of all, in ms.
        model_version: The model that scored the item; null where none did.
        reason: Why there are no users, or what was left out.
    """

    item_id: Id
    users: list[InterestedUser]
    looked_at: int
    already_met: int
    active_since: int | None
    active_until: int | None
    model_version: str | None
    reason: str


def audience_body(item_id: str, audience: Audience) -> dict[str, object]:
    """The body of an answer, as `AudienceResponse` documents it."""
    return {
        "item_id": item_id,
        "users": [
            {
                "user_id": user.user_id,
                "score": interest.score,
                "place": interest.place,
                "active_at": user.active_at,
            }
            for user, interest in audience.users
        ],
        "looked_at": audience.looked_at,
        "already_met": audience.already_met,
        "active_since": audience.active_since,
        "active_until": audience.active_until,
        "model_version": audience.model_version,
        "reason": "; ".join(audience.reasons),
    }
