"""Query and answer of `users-for-item`."""

from pydantic import BaseModel, Field

from services.serving.audiences.audiences import Audience
from slipstream.contracts.events import Id

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
        description="number of visitors, active last, among whom they are looked for",
    )
    include_met: bool = Field(
        False, description="also users who have had to do with the item lately"
    )


class InterestedUser(BaseModel):
    """A user whom an item would interest.

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
    """The users whom an item would interest most, best first.

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
