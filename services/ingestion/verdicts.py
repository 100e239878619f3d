"""What becomes of each thing that was sent: accepted, or rejected with a stable code, the field,
and the reason in words.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from slipstream.contracts.events import CatalogRecord, Interaction


class Code(StrEnum):
    """Why an event is rejected. Stable: clients and dead-letter tooling branch on it."""

    NOT_AN_OBJECT = "not_an_object"
    EVENT_TOO_LARGE = "event_too_large"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    UNSUPPORTED_TYPE = "unsupported_type"
    MISSING_USER = "missing_user"
    MISSING_GROUP = "missing_group"
    MISSING_ITEM = "missing_item"
    MISSING_NAME = "missing_name"
    INVALID_NAME = "invalid_name"
    INVALID_ID = "invalid_id"
    INVALID_OBJECT = "invalid_object"
    INVALID_VALUE = "invalid_value"
    INVALID_TIMESTAMP = "invalid_timestamp"
    TIMESTAMP_IN_SECONDS = "timestamp_in_seconds"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    PLAN_VIOLATION = "plan_violation"
    BOT = "bot"
    RATE_LIMITED = "rate_limited"


# Rejections that are counted and answered, but not kept as dead letters: crawlers and floods would
# fill the topic.
NOT_KEPT = frozenset({Code.BOT, Code.RATE_LIMITED})


class RejectionError(Exception):
    """An event can't be taken; `field` is its path in the event as it was sent."""

    def __init__(self, code: Code, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.field = code, reason, field


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: the name of its write key, its id, and when it was received (ms).

    `agent` is the `User-Agent` that it was sent with. `imported`: it is history sent on purpose, of
    whatever age.
    """

    source: str
    request_id: str
    received_at: int
    agent: str = ""
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A message that is fine, and the records that it makes. `named`: the client gave its
    `messageId`, so that a repeat can be known by it.
    """

    message_id: str
    records: list[Interaction | CatalogRecord]
    named: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message that is not, why, and the message itself for the dead letters, without what may not
    be kept (see `Privacy`).
    """

    message_id: str | None
    error: RejectionError
    original: Any


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message that was taken before, or stands in the same request before."""

    message_id: str


Outcome = Acceptance | Rejection | Duplicate


class Verdict(BaseModel):
    """What became of the message at `index`. `code`, `field` and `reason` are there when it was
    rejected.
    """

    index: int
    message_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    code: Code | None = None
    field: str | None = None
    reason: str | None = None


class Verdicts(BaseModel):
    """The verdicts on a request, in the order of its messages. Accepted means: the broker has
    acknowledged it.
    """

    accepted: int
    duplicates: int
    rejected: int
    results: list[Verdict]


def answer(outcomes: list[Outcome]) -> dict[str, Any]:
    """The outcomes as the JSON of `Verdicts`, built by hand since a batch has thousands of them."""
    results: list[dict[str, Any]] = []
    duplicates = rejected = 0
    for index, outcome in enumerate(outcomes):
        kind = type(outcome)
        if kind is Acceptance:
            results.append({"index": index, "message_id": outcome.message_id, "status": "accepted"})
        elif kind is Duplicate:
            duplicates += 1
            results.append(
                {"index": index, "message_id": outcome.message_id, "status": "duplicate"}
            )
        else:
            assert isinstance(outcome, Rejection)  # noqa: S101
            rejected += 1
            error = outcome.error
            results.append(
                {
                    "index": index,
                    "message_id": outcome.message_id,
                    "status": "rejected",
                    "code": error.code,
                    "field": error.field,
                    "reason": error.reason,
                }
            )
    accepted = len(outcomes) - duplicates - rejected
    return {
        "accepted": accepted,
        "duplicates": duplicates,
        "rejected": rejected,
        "results": results,
    }
