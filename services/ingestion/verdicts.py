"""What becomes of each thing that was sent: accepted, or rejected with a stable code, the field,
and the reason in words.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.gate.rejections import Code, RejectionError

# Rejections that are counted and answered, but not kept as dead letters: crawlers and floods would
# fill the topic.
NOT_KEPT = frozenset({Code.BOT, Code.RATE_LIMITED})


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
