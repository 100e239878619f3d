"""Queries and bodies of the routes of lists."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from services.serving.answers import MOST_ITEMS
from services.serving.bodies import MOST_EXCLUDED, ItemSlateQuery
from slipstream.contracts.events import Id
from slipstream.contracts.rest import RecommendationResponse
from slipstream.filters.texts import FilterText

# Most items of a cart whose companions are asked for.
MOST_IN_CART = 50
# Most visitors of a batch, and most items of all its lists together.
MOST_VISITORS = 1_000
MOST_BATCH_ITEMS = 20_000


class PopularQuery(ItemSlateQuery):
    """The query of popular items."""

    window: Literal["hour", "day", "week", "month"] = Field(
        "week", description="time whose demand counts; an event counts half after half of it"
    )


class CartRequest(ItemSlateQuery):
    """A cart, or any items, whose companions are wanted."""

    items: list[Id] = Field(min_length=1, max_length=MOST_IN_CART)


class BatchRequest(BaseModel):
    """Visitors whose lists are made at once, to be shown later or elsewhere."""

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
