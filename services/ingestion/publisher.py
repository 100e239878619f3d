"""Publishing of outcomes: accepted records to their topics, rejected messages to the dead letters.

Requests that arrive at the same time are published together, with one query to Redis and one
handover to the producer. For a single event each of these costs more than the event itself.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol

import orjson
from prometheus_client import CollectorRegistry, Counter

from services.ingestion import fields
from services.ingestion.fields import Code, RejectionError
from services.ingestion.outcomes import (
    NOT_KEPT,
    Acceptance,
    Admission,
    AdmissionQuestion,
    Duplicate,
    Origin,
    Outcome,
    Rejection,
)
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.chassis.errors import ServiceError, UnavailableError
from slipstream.chassis.logging import TracedId, get_logger
from slipstream.contracts.events import CatalogRecord, DeadLetter, NewInteraction
from slipstream.contracts.item_patches import PATCHED_ENTITY, patch_key
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, topic_of
from slipstream.stores.admission_store import AdmissionVerdict

# Most bytes of a rejected message in its dead letter. As a text it has at most twice as many, and
# the client of the broker refuses records of 1 MiB.
MAX_ORIGINAL_BYTES: Final = 256 * 1024


def records_of(outcomes: list[Outcome], origin: Origin) -> list[OutgoingRecord]:
    """The records of a request for all topics."""
    outgoing: list[OutgoingRecord] = []
    for outcome in outcomes:
        if type(outcome) is Acceptance:
            for record in outcome.records:
                if type(record) is NewInteraction:
                    outgoing.append(
                        OutgoingRecord(INTERACTIONS, record.user_id, record, origin.request_id)
                    )
                else:
                    assert isinstance(record, CatalogRecord)  # noqa: S101
                    outgoing += _of_catalog(record, origin.request_id)
        elif isinstance(outcome, Rejection) and outcome.error.code not in NOT_KEPT:
            outgoing.append(
                OutgoingRecord(
                    DEAD_LETTERS, origin.source, _dead_letter(outcome, origin), origin.request_id
                )
            )
    return outgoing


def _of_catalog(record: CatalogRecord, request_id: str) -> list[OutgoingRecord]:
    """An entry, or a user's erasure with the tombstone by which compaction drops the entries."""
    topic, key = topic_of(record), f"{record.entity}:{record.entity_id}"
    if record.entity in PATCHED_ENTITY:
        key = patch_key(record)
    if not record.erasure_id:
        return [OutgoingRecord(topic, key, record, request_id)]
    # Under a key of its own, a later entry of the user does not make compaction drop it unread.
    return [
        OutgoingRecord(topic, key, None, request_id),
        OutgoingRecord(topic, f"erasure:{record.erasure_id}", record, request_id),
    ]


def _dead_letter(outcome: Rejection, origin: Origin) -> DeadLetter:
    error = outcome.error
    return DeadLetter(
        source=origin.source,
        code=error.code,
        reason=error.reason,
        field=error.field,
        original=_keepable(outcome.original),
        received_at=origin.received_at,
        request_id=origin.request_id,
        by_browser=origin.browser,
    )


def _keepable(original: Any) -> Any:
    """The original of a dead letter, as every consumer can take it.

    One that is nested deeper than JSON parsers allow becomes its text. Of a larger one than
    `MAX_ORIGINAL_BYTES` only the beginning of the text is kept.
    """
    if type(original) not in (dict, list, str):
        return original
    try:
        text = orjson.dumps(original)
    except orjson.JSONEncodeError:
        return "(nested too deeply to be kept)"
    if len(text) > MAX_ORIGINAL_BYTES:
        return text[:MAX_ORIGINAL_BYTES].decode(errors="ignore")
    if type(original) is not str:
        try:
            fields.refuse_deep(original)
        except RejectionError:
            return text.decode()
    return original


log = get_logger(__name__)

RETRY_AFTER_S = 2
# A request of this many messages does not wait for others, and none gathers behind it.
ENOUGH = 64
# Longest wait of a request for others, while a group is under way.
GATHER_S = 0.02


class Carrier(Protocol):
    """A way for records to their topics: the broker's producer."""

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        """Deliver the records of several callers, and return a failure or None for each caller.

        Records are handed over in the order of calls, before anything is awaited.
        """
        ...


@dataclass(slots=True)
class _Parcel:
    """A request's outcomes on their way to the broker."""

    outcomes: list[Outcome]
    origin: Origin
    question: AdmissionQuestion | None
    done: "asyncio.Future[list[Outcome]]"


class OutcomePublisher:
    """Publishes the outcomes of requests, in groups. For use in one event loop."""

    def __init__(
        self, carrier: Carrier, registry: CollectorRegistry, admission: Admission | None = None
    ) -> None:
        """`admission` limits rates and detects duplicates; without it everything is admitted."""
        self._carrier = carrier
        self._admission = admission
        self._waiting: list[_Parcel] = []
        self._departure: asyncio.Handle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        # Those tasks that gather requests behind them.
        self._under_way: set[asyncio.Task[None]] = set()
        # Ids that are being looked up, until their records are handed over.
        self._looked_up: dict[str, asyncio.Future[None]] = {}
        self._events = Counter(
            "slipstream_ingestion_events_total",
            "Messages that were answered, by source and verdict (accepted, duplicate, or the code "
            "of the rejection)",
            ["source", "verdict"],
            registry=registry,
        )
        self._children: dict[tuple[str, str], Any] = {}
        self._records = Counter(
            "slipstream_ingestion_records_total",
            "Records of accepted messages that the broker has acknowledged",
            registry=registry,
        )

    async def publish(
        self, outcomes: list[Outcome], origin: Origin, *, single: bool = False
    ) -> list[Outcome]:
        """Publish a request, and return its final outcomes once the broker has acknowledged.

        Raises `TooManyRequestsError`. Raises `UnavailableError` if the broker has not acknowledged:
        then nothing counts as accepted, and the client sends everything again under the same
        message ids. If the broker refuses a record for good, only its message is rejected.

        Args:
            outcomes: What reading made of each message.
            origin: Where the request came from.
            single: Whether the request is only one message, and so is refused as a whole with it.
        """
        question = self._admission.question(outcomes, origin) if self._admission else None
        loop = asyncio.get_running_loop()
        parcel = _Parcel(outcomes, origin, question, loop.create_future())
        self._waiting.append(parcel)
        if len(outcomes) >= ENOUGH:
            self._depart()
        elif self._departure is None:
            self._departure = (
                loop.call_later(GATHER_S, self._depart)
                if self._under_way
                else loop.call_soon(self._depart)
            )
        try:
            final = await parcel.done
        finally:
            del parcel  # a failure would hold this frame, and so itself
        if single and self._admission and question:
            self._admission.refuse_single(final[0], question)
        return final

    def _depart(self) -> None:
        """Send the requests that have gathered."""
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None
        parcels, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._send(parcels))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        if all(len(parcel.outcomes) < ENOUGH for parcel in parcels):
            self._under_way.add(task)
            task.add_done_callback(self._returned)

    def _returned(self, task: "asyncio.Task[None]") -> None:
        """End the wait of gathered requests once no other group is under way."""
        self._under_way.discard(task)
        if not self._under_way and self._waiting:
            self._depart()

    async def _send(self, parcels: list[_Parcel]) -> None:
        began = perf_counter()
        try:
            admitted, published = await self._judge_and_hand_over(parcels)
            handed_over = perf_counter()
            failures = await published
            for place, failure in enumerate(failures):
                if isinstance(failure, RecordRefusedError):
                    parcel, outcomes = admitted[place]
                    outcomes, failures[place] = await self._publish_apart(outcomes, parcel.origin)
                    admitted[place] = parcel, outcomes
        except Exception as error:  # a bug: callers must not wait for ever
            for parcel in parcels:
                if not parcel.done.done():
                    parcel.done.set_exception(error)
            return
        self._count(
            (parcel.origin.source, _verdict(outcome))
            for (parcel, outcomes), failure in zip(admitted, failures, strict=True)
            if failure is None
            for outcome in outcomes
        )
        self._records.inc(
            sum(
                len(outcome.records)
                for (_, outcomes), failure in zip(admitted, failures, strict=True)
                if failure is None
                for outcome in outcomes
                if type(outcome) is Acceptance
            )
        )
        for (parcel, outcomes), failure in zip(admitted, failures, strict=True):
            if type(rid := parcel.origin.request_id) is TracedId and rid.recorded is not None:
                rid.recorded.part("admission", began, handed_over - began)
                delivery_s = perf_counter() - handed_over
                rid.recorded.part("delivery", handed_over, delivery_s, failed=failure is not None)
            if failure is None and self._admission and parcel.question:
                self._admission.store.acknowledged(parcel.question.taken(outcomes))
            if parcel.done.done():
                continue
            if failure is None:
                parcel.done.set_result(outcomes)
            else:
                parcel.done.set_exception(_unavailable(parcel, failure))

    async def _judge_and_hand_over(
        self, parcels: list[_Parcel]
    ) -> tuple[list[tuple[_Parcel, list[Outcome]]], "asyncio.Task[list[Failure]]"]:
        """Admit parcels and hand their records to the carrier.

        Of two copies of a message, the one that Redis judges first must be first on its topic, too.
        The second copy is marked as a possible repeat, and consumers look for the first one before
        it. So a copy waits while another is between Redis and the carrier.

        Returns:
            The admitted parcels with their outcomes, and the task that delivers their records.
        """
        keys = {
            key for parcel in parcels if parcel.question for key in parcel.question.asked.ids if key
        }
        while others := keys & self._looked_up.keys():
            await self._looked_up[others.pop()]
        handed_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._looked_up.update(dict.fromkeys(keys, handed_over))
        try:
            admitted = await self._admit(parcels)
            lists = [records_of(outcomes, parcel.origin) for parcel, outcomes in admitted]
            published = asyncio.ensure_future(self._carrier.publish_each(lists))
            await asyncio.sleep(0)  # lets the task start: a carrier takes records at once
        finally:
            for key in keys:
                del self._looked_up[key]
            handed_over.set_result(None)
        return admitted, published

    async def _admit(self, parcels: list[_Parcel]) -> list[tuple[_Parcel, list[Outcome]]]:
        """Admitted parcels with their outcomes. The others get their error as answer here."""
        asking = [parcel for parcel in parcels if parcel.question is not None]
        judged: list[AdmissionVerdict] = []
        if self._admission and asking:
            judged = await self._admission.store.judge(
                [parcel.question.asked for parcel in asking if parcel.question]
            )
        verdicts = iter(judged)
        admitted: list[tuple[_Parcel, list[Outcome]]] = []
        for parcel in parcels:
            outcomes = parcel.outcomes
            if self._admission and parcel.question:
                try:
                    outcomes = self._admission.outcomes(outcomes, parcel.question, next(verdicts))
                except ServiceError as error:
                    if not parcel.done.done():
                        parcel.done.set_exception(error.with_traceback(None))
                    continue
            admitted.append((parcel, outcomes))
        return admitted

    async def _publish_apart(
        self, outcomes: list[Outcome], origin: Origin
    ) -> tuple[list[Outcome], Failure]:
        """Publish each message of a request alone, since the broker refused one of its records.

        Records before the refused one may be on their topic, so all are marked as possible repeats.

        Returns:
            The outcomes, a refused message among them as a rejection, and the failure of others.
        """
        outcomes = [each.as_repeat() if type(each) is Acceptance else each for each in outcomes]
        lists = [records_of([each], origin) for each in outcomes]
        places = [place for place, records in enumerate(lists) if records]
        failures = await self._carrier.publish_each([lists[place] for place in places])
        failed = None
        for place, failure in zip(places, failures, strict=True):
            if not isinstance(failure, RecordRefusedError):
                failed = failed or failure
                continue
            log.error(
                "the broker refuses a record, which is lost",
                source=origin.source,
                reason=str(failure),
            )
            outcome = outcomes[place]
            if type(outcome) is Acceptance:
                error = RejectionError(
                    Code.EVENT_TOO_LARGE, "it makes a record that the broker does not take"
                )
                outcomes[place] = Rejection(outcome.message_id, error, None)
        return outcomes, failed

    def _count(self, verdicts: Iterable[tuple[str, str]]) -> None:
        """Count verdicts, each with its source."""
        for labels, count in Tally(verdicts).items():
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._events.labels(*labels)
            child.inc(count)


def _verdict(outcome: Outcome) -> str:
    if type(outcome) is Acceptance:
        return "accepted"
    return "duplicate" if isinstance(outcome, Duplicate) else outcome.error.code  # type: ignore[union-attr]


def _unavailable(parcel: _Parcel, failure: Exception) -> Exception:
    if not isinstance(failure, BrokerUnavailableError):
        return failure
    log.warning(
        "not acknowledged",
        source=parcel.origin.source,
        messages=len(parcel.outcomes),
        reason=str(failure),
    )
    return UnavailableError(
        "The broker did not acknowledge; nothing of this request counts as accepted. Send it again",
        code="broker_unavailable",
        retry_after_s=RETRY_AFTER_S,
    )
