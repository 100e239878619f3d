"""Outcomes of messages: as they are read, after admission, and as the verdicts that clients get.

Admission rejects messages beyond the allowed rates, and tells duplicates apart.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from msgspec.structs import replace
from pydantic import BaseModel

from services.ingestion.fields import Code, RejectionError
from slipstream.chassis.access.page_tokens import Unproven
from slipstream.chassis.errors import TooManyRequestsError
from slipstream.contracts.access import INGESTION_SCOPES, Scope
from slipstream.contracts.events import CatalogRecord, NewInteraction
from slipstream.contracts.vocabulary import MERGED_INTO, signal_weight
from slipstream.stores.admission_store import (
    DONE,
    FIRST,
    LIMITED,
    PENDING,
    TOO_FAST,
    TOO_MANY,
    UNCHECKED,
    UNLEARNED,
    AdmissionQuery,
    AdmissionStore,
    AdmissionVerdict,
    PageLink,
    PageMessage,
    Rate,
    Rates,
)

# Rejections that are counted and answered, but not kept as dead letters. Crawlers, floods and keys
# that anyone can read in a page would fill the topic.
NOT_KEPT = frozenset({Code.BOT, Code.RATE_LIMITED, Code.TOO_MANY_LINKS, Code.SCOPE_MISSING})


# Hints in the answer to a request.
MOST_HINTS: Final = 20


class Origin(NamedTuple):
    """Where a request came from: name of its write key, its id, and moment of receipt (ms).

    `agent` is its `User-Agent`. `imported` means that it is history, which may be of any age.
    `scopes` are the key's; `browser` means that web pages show the key to everyone. `network` is a
    name for a page's address that does not tell it.
    """

    source: str
    request_id: str
    received_at: int
    agent: str = ""
    imported: bool = False
    scopes: frozenset[Scope] = INGESTION_SCOPES
    browser: bool = False
    network: str = ""


class Acceptance(NamedTuple):
    """A good message, and the records that it makes.

    `named` means that the client gave the `messageId`, by which a repeat can be recognised. `hints`
    are words for people about names that they may have meant otherwise, `remark` about what the
    message counts as. `unproven` says why what a page says about its user is not proven.
    """

    message_id: str
    records: list[NewInteraction | CatalogRecord]
    named: bool = False
    hints: tuple[str, ...] = ()
    unproven: Unproven | None = None
    remark: str = ""

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

    `unproven` is there where a page named a user without proof: why there is none. `remark` is
    there where an accepted message may mean something else than what it counts as.
    """

    index: int
    message_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    code: Code | None = None
    field: str | None = None
    reason: str | None = None
    unproven: Unproven | None = None
    remark: str | None = None


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
            if outcome.remark:
                results[-1]["remark"] = outcome.remark
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


# The codes of messages with an unchanged outcome.
_UNCHANGED: Final = bytes((FIRST, UNCHECKED))


class AdmissionQuestion(NamedTuple):
    """A question to the store about a request.

    `repeated` holds the indexes of messages with an id that came earlier in the same request.
    """

    asked: AdmissionQuery
    repeated: frozenset[int]

    def taken(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Ids of the accepted messages, to be noted once the request is acknowledged."""
        return [
            key
            for key, outcome in zip(self.asked.ids, outcomes, strict=True)
            if key and type(outcome) is Acceptance
        ]


class Admission:
    """Asks the store about requests, and turns its codes into outcomes."""

    def __init__(self, store: AdmissionStore, servers: Rates, browsers: Rates) -> None:
        """With the rates of servers' keys and of browsers' keys."""
        self.store = store
        self._servers, self._browsers = servers, browsers
        # Until when the uncounted links are paid for, in ms of the monotonic clock.
        self._links_paid_ms = 0.0

    def question(self, outcomes: Sequence[Outcome], origin: Origin) -> AdmissionQuestion | None:
        """The question about a request; None if there is nothing to ask."""
        rates = self._browsers if origin.browser else self._servers
        if origin.imported:
            # History comes in bursts by its nature, so its visitors' rates are not limited.
            rates = rates._replace(visitor=Rate())
        counts = rates.visitor.records_per_s > 0
        links = _links(outcomes) if rates.links_per_hour else {}
        pages = _pages(outcomes) if origin.browser and not origin.imported else {}
        if not (counts or self.store.remembers or rates.key.records_per_s or links or pages):
            return None
        ids: list[str | None] = []
        visitors: list[str | None] = []
        seen: set[str] = set()
        repeated: set[int] = set()
        remembers, key_of, source = self.store.remembers, self.store.message_key, origin.source
        for place, outcome in enumerate(outcomes):
            key = visitor = None
            if type(outcome) is Acceptance and outcome.records:
                record = outcome.records[0]
                interaction = type(record) is NewInteraction
                if remembers and outcome.named:
                    key = key_of(source, "" if interaction else record.entity, outcome.message_id)  # type: ignore[union-attr]
                    if key in seen:
                        repeated.add(place)
                        key = None
                    else:
                        seen.add(key)
                if counts and place not in repeated:
                    visitor = record.user_id if interaction else record.entity_id  # type: ignore[union-attr]
            ids.append(key)
            visitors.append(visitor)
        # A rejection may become a dead letter, and what makes no record has cost work, too.
        records = (
            [len(made.records) or 1 if type(made) is Acceptance else 1 for made in outcomes]
            if counts or rates.key.records_per_s
            else None
        )
        return AdmissionQuestion(
            AdmissionQuery(source, ids, visitors, records, rates, links, pages, origin.network),
            frozenset(repeated),
        )

    def outcomes(
        self, outcomes: list[Outcome], question: AdmissionQuestion, judged: AdmissionVerdict
    ) -> list[Outcome]:
        """The outcomes of the request after the store has judged it.

        Raises `TooManyRequestsError` if the write key has sent too much.
        """
        if judged.wait_ms:
            rate = question.asked.rates.key
            raise TooManyRequestsError(
                f"This write key may send {rate.records_per_s:g} records a second, "
                f"and {rate.burst} at once; each product and impression of an event is one",
                retry_after_s=math.ceil(judged.wait_ms / 1000),
                limit=rate.burst,
            )
        codes = judged.codes
        if not judged.counted and question.asked.links:
            codes = self._bounded(codes, question.asked)
        if question.asked.pages and judged.learned:
            outcomes = _learned(outcomes, question.asked.pages, judged.learned)
        if not question.repeated and not codes.translate(None, _UNCHANGED):
            return outcomes
        return [
            self._outcome(outcome, code, place in question.repeated, question)
            for place, (outcome, code) in enumerate(zip(outcomes, codes, strict=True))
        ]

    def _bounded(self, codes: bytes, query: AdmissionQuery) -> bytes:
        """The codes with the links refused that are too many for this replica alone.

        A flood makes Redis answer late, and must not pass by that.
        """
        bounded, rate, now = bytearray(codes), query.rates.links, time.monotonic() * 1000
        for place in query.links:
            paid = max(self._links_paid_ms, now) + rate.interval_ms
            if paid - now > rate.interval_ms * rate.burst:
                bounded[place] = TOO_FAST
            else:
                self._links_paid_ms = paid
        return bytes(bounded)

    def refuse_single(self, outcome: Outcome, question: AdmissionQuestion) -> None:
        """Raise `TooManyRequestsError` if a request's only message exceeds its visitor's rate."""
        if isinstance(outcome, Rejection) and outcome.error.code == Code.RATE_LIMITED:
            rates = question.asked.rates
            rate = rates.visitor if rates.visitor.records_per_s else rates.links
            wait_s = max(1, math.ceil(rate.interval_ms / 1000))
            raise TooManyRequestsError(outcome.error.reason, retry_after_s=wait_s, limit=rate.burst)

    def _outcome(
        self, outcome: Outcome, code: int, repeated: bool, question: AdmissionQuestion
    ) -> Outcome:
        if not isinstance(outcome, Acceptance):
            return outcome
        if repeated or code == DONE:
            return Duplicate(outcome.message_id)
        if code == LIMITED:
            rate = question.asked.rates.visitor
            reason = (
                f"a visitor may send {rate.records_per_s:g} records a second, "
                f"and {rate.burst} at once"
            )
            return Rejection(outcome.message_id, RejectionError(Code.RATE_LIMITED, reason), None)
        if code == TOO_FAST:
            rate = question.asked.rates.links
            reason = (
                f"pages may link {rate.records_per_s:g} visitors a second, "
                f"and {rate.burst} at once; send it again"
            )
            return Rejection(outcome.message_id, RejectionError(Code.RATE_LIMITED, reason), None)
        if code == TOO_MANY:
            reason = (
                f"{question.asked.rates.links_per_hour} visitors became this user by pages' links"
                " within an hour, and no more do; a server's key may link others"
            )
            return Rejection(outcome.message_id, RejectionError(Code.TOO_MANY_LINKS, reason), None)
        if code == PENDING:
            return outcome.as_repeat()
        return outcome


def _pages(outcomes: Sequence[Outcome]) -> dict[int, PageMessage]:
    """The events of a page's messages, by the message's place."""
    pages: dict[int, PageMessage] = {}
    for place, outcome in enumerate(outcomes):
        if type(outcome) is not Acceptance or not outcome.records:
            continue
        first, records = outcome.records[0], outcome.records
        if type(first) is NewInteraction:
            proven = outcome.unproven is None and first.user_id != first.anonymous_id
            weights = [(record.item_id, _weight(record)) for record in records]  # type: ignore[union-attr, arg-type]
            pages[place] = PageMessage(first.user_id, weights, proven)
    return pages


def _weight(record: NewInteraction) -> int:
    """What an event adds to its item's demand at most."""
    if record.item_id is None or record.weight == 0:
        return 0
    return int(signal_weight(record.event_type, record.value))


def _learned(
    outcomes: Sequence[Outcome], pages: Mapping[int, PageMessage], codes: bytes
) -> list[Outcome]:
    """The outcomes with the records marked that add less than they weigh."""
    marked, at = list(outcomes), 0
    for place, page in pages.items():
        of_message = codes[at : (at := at + len(page.records))]
        weights = [weight for _, weight in page.records]
        if of_message == bytes(ord("0") + weight for weight in weights):
            continue
        made = outcomes[place]
        assert type(made) is Acceptance  # noqa: S101
        records = [
            _marked(record, code, weight)
            for record, code, weight in zip(made.records, of_message, weights, strict=True)
        ]
        marked[place] = made._replace(records=records)
    return marked


def _marked(record: Any, code: int, weight: int) -> Any:
    """The event with the mark that the store's code stands for."""
    if code == UNLEARNED:
        return replace(record, unlearned=True)
    gain = code - ord("0")
    return replace(record, weight=float(gain)) if gain < weight else record


def _links(outcomes: Sequence[Outcome]) -> dict[int, PageLink]:
    """The links that a page's messages make, by the message's place."""
    return {
        place: PageLink(record.entity_id, record.attributes[MERGED_INTO], record.proven)
        for place, outcome in enumerate(outcomes)
        if type(outcome) is Acceptance
        and outcome.records
        and isinstance(record := outcome.records[0], CatalogRecord)
        and record.entity == "identity"
    }
