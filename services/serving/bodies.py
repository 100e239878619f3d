"""Queries and bodies of serving's routes."""

from pydantic import BaseModel, Field

from services.serving.answers import MOST_ITEMS
from slipstream.contracts.events import EventType, Id, Millis
from slipstream.filters.texts import FilterText

MOST_RANKED = 1_000
MOST_EXCLUDED = 500


class SlateQuery(BaseModel):
    """The query of every GET that answers a slate.

    It is one model, since FastAPI takes half as long for it as for its fields.
    """

    n: int = Field(10, ge=1, le=MOST_ITEMS, description="number of items")
    attributes: bool = Field(False, description="with each item's attributes from the catalogue")
    exclude: list[Id] = Field(
        default_factory=list, max_length=MOST_EXCLUDED, description="item ids that are not wanted"
    )
    placement: str = Field("", max_length=64, description="place on the page, kept with the slate")
    filter: FilterText = ""


class ItemSlateQuery(SlateQuery):
    """The same for slates that do not depend on the visitor."""

    user_id: Id | None = Field(None, description="the visitor who sees the slate, for attribution")


class SlateBody(SlateQuery):
    """The query of `GET /v1/recommendations/{user_id}`, as a body."""

    user_id: Id = Field(description="the visitor; an unknown one gets trending items")


class SessionEvent(BaseModel):
    """An event of an anonymous visitor.

    Without `timestamp`, the order of the list is the order of time.
    """

    item_id: Id
    event_type: EventType = "view"
    timestamp: Millis | None = None
    value: float | None = None


class SessionRequest(BaseModel):
    """A session, oldest event first, of which the last 100 count."""

    events: list[SessionEvent] = Field(max_length=1_000)
    n: int = Field(10, ge=1, le=MOST_ITEMS)
    exclude: list[str] = Field(default_factory=list, max_length=MOST_EXCLUDED)
    attributes: bool = False
    placement: str = Field("", max_length=64)
    filter: FilterText = ""
    anonymous_id: Id | None = Field(
        None, description="the visitor who sees the slate, for attribution"
    )


class RankRequest(BaseModel):
    """A list of items to put in order for a visitor."""

    user_id: Id
    items: list[Id] = Field(min_length=1, max_length=MOST_RANKED)
    attributes: bool = False
    placement: str = Field("", max_length=64)
