"""Outcomes of messages inside ingestion, and the verdicts that clients get of them."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from msgspec.structs import replace
from pydantic import BaseModel

from slipstream.chassis.access.page_tokens import Unproven
from slipstream.contracts.access import INGESTION_SCOPES, Scope
from slipstream.contracts.events import CatalogRecord, NewInteraction
from slipstream.ingress.fields import Code, RejectionError

# Rejections that are counted and answered, but not kept as dead letters. Crawlers, floods and keys
# that anyone can read in a page would fill the topic.
NOT_KEPT = frozenset({Code.BOT, Code.RATE_LIMITED, Code.TOO_MANY_LINKS, Code.SCOPE_MISSING})


# Hints in the answer to a request.
MOST_HINTS: Final = 20


class Origin(NamedTuple):
    """Where a request came from: name of its write key, its id, and moment of receipt (ms).

    `agent` is its `User-Agent`. `imported` means that it is history, which may be of any age.
    `scopes` are the key's; `browser` means that web pages show the key to everyone.
    """

    source: str
    request_id: str
    received_at: int
    agent: str = ""
    imported: bool = False
    scopes: frozenset[Scope] = INGESTION_SCOPES
    browser: bool = False


class Acceptance(NamedTuple):
    """A good message, and the records that it makes.

    `named` means that the client gave the `messageId`, by which a repeat can be recognised. `hints`
    are words for people about names that they may have meant otherwise. `unproven` says why what a
    page says about its user is not proven.
    """

    message_id: str
    records: list[NewInteraction | CatalogRecord]
    named: bool = False
    hints: tuple[str, ...] = ()
    unproven: Unproven | None = None

    def as_repeat(self) -> "Acceptance":
        """The same message, marked as one with events that may be on their topic already."""
        records = [
            replace(record, maybe_repeat=True) if type(record) is NewInteraction else record
            for record in self.records
        ]
        return self._replace(records=records)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A bad message: the reason, and for the dead letters the message without personal data."""

    message_id: str | None
    error: RejectionError
    original: Any

    def __post_init__(self) -> None:
        # The traceback has the frames that read the message, and those of the request, which holds
        # this rejection: a ring with the whole message in it, for the garbage collector to find.
        self.error.__traceback__ = self.error.__context__ = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message that was accepted before, or that stands earlier in the same request."""

    message_id: str


Outcome = Acceptance | Rejection | Duplicate


class Verdict(BaseModel):
    """The verdict on the message at `index`. A rejected one has `code`, `field` and `reason`.

    `unproven` is there where a page named a user without proof: why there is none.
    """

    index: int
    message_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    code: Code | None = None
    field: str | None = None
    reason: str | None = None
    unproven: Unproven | None = None


class Verdicts(BaseModel):
    """The verdicts on a request, in the order of its messages.

    Accepted means that the broker has acknowledged the message's records. `hints` name attributes
    of items that are not read under their present names; each hint is returned once.
    """

    accepted: int
    duplicates: int
    rejected: int
    results: list[Verdict]
    hints: list[str] | None = None


def answer(outcomes: list[Outcome]) -> dict[str, Any]:
    """The outcomes as the JSON of `Verdicts`, built by hand since a batch has thousands of them."""
    results: list[dict[str, Any]] = []
    hints: dict[str, None] = {}
    duplicates = rejected = 0
    for index, outcome in enumerate(outcomes):
        if type(outcome) is Acceptance:
            results.append({"index": index, "message_id": outcome.message_id, "status": "accepted"})
            if outcome.unproven is not None:
                results[-1]["unproven"] = outcome.unproven
            if outcome.hints and len(hints) < MOST_HINTS:
                hints |= dict.fromkeys(outcome.hints)
        elif type(outcome) is Duplicate:
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
    answered = {
        "accepted": accepted,
        "duplicates": duplicates,
        "rejected": rejected,
        "results": results,
    }
    return answered | {"hints": list(hints)[:MOST_HINTS]} if hints else answered
