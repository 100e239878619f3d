"""Bodies of previews: a list as a visitor would get it, and the way of candidates through it."""

from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from services.serving.http.bodies import MOST_EVENTS, PersonalBody, SessionEvent
from slipstream.contracts.events import Id
from slipstream.contracts.rest import RecommendationResponse
from slipstream.slates.funnel import Funnel


class PreviewBody(PersonalBody):
    """The body of `POST /v1/recommendations`, and what is to be looked into.

    Without a visitor it has a `history`, of which no event is sent or kept.
    """

    user_id: Id | None = Field(None, description="the visitor who would get the list")
    events: list[SessionEvent] = Field(
        default_factory=list, max_length=MOST_EVENTS, description="events after those of the store"
    )
    history: list[SessionEvent] | None = Field(
        None, max_length=MOST_EVENTS, description="events in place of those of the store"
    )
    about: Id | None = Field(
        None, description="an item: the answer says where it stands, or at which stage it fell"
    )
    explain: bool = Field(True, description="has no effect: previews have reasons")

    @model_validator(mode="after")
    def _of_somebody(self) -> Self:
        if self.user_id is None and self.history is None:
            raise ValueError("name a visitor as user_id, or give a history")
        if self.history is not None and self.events:
            raise ValueError("give events after those of the store, or a history in their place")
        return self


class PreviewStage(BaseModel):
    """A stage of the list: candidates that came `in` and went on, and its time in ms.

    Both numbers are null for a stage that handles no candidates: `features`, which reads the
    visitor, and `reasons`. `retrieval` and `ranking` are one call of the model; their times are
    those of a second one.
    """

    name: str
    came: int | None = Field(serialization_alias="in")
    left: int | None = Field(serialization_alias="out")
    ms: float


class PreviewFall(BaseModel):
    """The stage at which an item fell, and why.

    `reason` is stable: deleted, unavailable, expired, excluded, earlier_page, filter, rule, seen,
    bought, new_item, not_candidate, beyond_first, not_listed, fatigue, group, cap, outranked.
    """

    stage: str
    reason: str
    detail: str


class AboutItem(BaseModel):
    """The way of an item: its `position` in the list, from 0, or the stage at which it `fell`."""

    item_id: str
    position: int | None
    fell: PreviewFall | None


class PreviewResponse(RecommendationResponse):
    """A list with reasons and rules, its stages, and the way of the item that was asked about."""

    stages: list[PreviewStage]
    about: AboutItem | None = None


def funnel_body(way: Funnel, about: str | None) -> dict[str, Any]:
    """The fields of an answer that tell of the funnel, as `PreviewResponse` documents them."""
    body: dict[str, Any] = {
        "stages": [
            {"name": name, "in": came, "out": left, "ms": round(seconds * 1000, 3)}
            for name, came, left, seconds in way.stages
        ]
    }
    if about is not None:
        fell = way.fall and way.fall._asdict()
        body["about"] = {"item_id": about, "position": way.position, "fell": fell}
    return body
