"""Put what was taken on its topics, and what was rejected on the dead letters; return when the
broker has all of it.

Requests that come in at the same time travel together: one question to Redis, one handover to the
producer, one answer for all. For a single event each of these costs more than the event itself.
"""

import asyncio
from collections import Counter as Tally
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter

from services.ingestion import fields
from services.ingestion.admission import Admission, Question
from services.ingestion.carrier import Carrier
from services.ingestion.verdicts import (
    NOT_KEPT,
    Duplicate,
    Origin,
    Outcome,
    Rejected,
    RejectedError,
    Taken,
)
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Failure, Outgoing
from slipstream.chassis.errors import ServiceError, UnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, INTERACTIONS
from slipstream.stores.admission_protocol import AdmissionVerdict

log = get_logger(__name__)

RETRY_AFTER_S = 2
# So many messages are worth a journey of their own.
ENOUGH = 64
# The longest that a request waits for others while some are under way.
GATHER_S = 0.02


@dataclass(slots=True)
class _Parcel:
    """A request on its way."""

    outcomes: list[Outcome]
    origin: Origin
    question: Question | None
    done: "asyncio.Future[list[Outcome]]"


class Publisher:
    """Sends the outcomes of requests. Used in one event loop."""

    def __init__(
        self, carrier: Carrier, registry: CollectorRegistry, admission: Admission | None = None
    ) -> None:
        """Without `admission` everything is let in."""
        self._carrier = carrier
        self._admission = admission
        self._waiting: list[_Parcel] = []
        self._departure: asyncio.Handle | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        # the ids that are being looked up, until their records are handed over
        self._looked_up: dict[str, asyncio.Future[None]] = {}
        self._events = Counter(
            "slipstream_ingestion_events_total",
            "Messages that were answered, by source and verdict (accepted, duplicate, or the code of the rejection)",
            ["source", "verdict"],
            registry=registry,
        )
        self._children: dict[tuple[str, str], Any] = {}

    async def publish(
        self, outcomes: list[Outcome], origin: Origin, *, single: bool = False
    ) -> list[Outcome]:
        """Return when the broker has acknowledged every record and every dead letter, with what
        finally became of each message.

        Raises `TooManyRequestsError`, or `UnavailableError` when the broker has not acknowledged:
        then nothing may be claimed accepted, and the client sends everything again under the same
        message ids. `single`: the request is its only message, and is refused with it.
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
        final = await parcel.done
        if single and self._admission:
            self._admission.refuse_single(final[0])
        return final

    def _depart(self) -> None:
        """Send what has gathered."""
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None
        parcels, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._send(parcels))
        self._under_way.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: "asyncio.Task[None]") -> None:
        """Once all are back, what has gathered meanwhile need not wait any longer."""
        self._under_way.discard(task)
        if not self._under_way and self._waiting:
            self._depart()

    async def _send(self, parcels: list[_Parcel]) -> None:
        try:
            admitted, published = await self._judge_and_hand_over(parcels)
            failures = await published
        except Exception as error:  # a fault of ours: nobody may wait for ever
            for parcel in parcels:
                if not parcel.done.done():
                    parcel.done.set_exception(error)
            return
        for (parcel, outcomes), failure in zip(admitted, failures, strict=True):
            if failure is None:
                self._count(parcel.origin.source, outcomes)
                if self._admission and parcel.question:
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
        """The parcels that were let in, and what becomes of their records, which the carrier has by
        now.

        Of two copies of a message, the one that is judged first must be first on its topic, too:
        the other one says that it may be a repeat, and whoever reads that looks for what stands
        before it. So a copy waits while another one is between the two.
        """
        keys = {
            key for parcel in parcels if parcel.question for key in parcel.question.asked.ids if key
        }
        while (
            other := next((self._looked_up[key] for key in keys if key in self._looked_up), None)
        ) is not None:
            await other
        handed_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._looked_up.update(dict.fromkeys(keys, handed_over))
        try:
            admitted = await self._admit(parcels)
            lists = [_records(outcomes, parcel.origin) for parcel, outcomes in admitted]
            published = asyncio.ensure_future(self._carrier.publish_each(lists))
            await asyncio.sleep(0)  # a carrier takes records before it waits for anything
        finally:
            for key in keys:
                del self._looked_up[key]
            handed_over.set_result(None)
        return admitted, published

    async def _admit(self, parcels: list[_Parcel]) -> list[tuple[_Parcel, list[Outcome]]]:
        """The parcels that may go on, with what becomes of their messages; the others have their
        answer.
        """
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
                        parcel.done.set_exception(error)
                    continue
            admitted.append((parcel, outcomes))
        return admitted

    def _count(self, source: str, outcomes: list[Outcome]) -> None:
        for verdict, count in Tally(map(_verdict, outcomes)).items():
            child = self._children.get((source, verdict))
            if child is None:
                child = self._children[source, verdict] = self._events.labels(source, verdict)
            child.inc(count)


def _records(outcomes: list[Outcome], origin: Origin) -> list[Outgoing]:
    """What a request puts on topics."""
    outgoing: list[Outgoing] = []
    for outcome in outcomes:
        if type(outcome) is Taken:
            for record in outcome.records:
                if type(record) is Interaction:
                    outgoing.append(
                        Outgoing(INTERACTIONS, record.user_id, record, origin.request_id)
                    )
                else:
                    key = f"{record.entity}:{record.entity_id}"  # type: ignore[union-attr]
                    outgoing.append(Outgoing(CATALOG, key, record, origin.request_id))
        elif isinstance(outcome, Rejected) and outcome.error.code not in NOT_KEPT:
            outgoing.append(
                Outgoing(
                    DEAD_LETTERS, origin.source, _dead_letter(outcome, origin), origin.request_id
                )
            )
    return outgoing


def _verdict(outcome: Outcome) -> str:
    if type(outcome) is Taken:
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


def _dead_letter(outcome: Rejected, origin: Origin) -> DeadLetter:
    error = outcome.error
    return DeadLetter(
        source=origin.source,
        code=error.code,
        reason=error.reason,
        field=error.field,
        original=_keepable(outcome.original),
        received_at=origin.received_at,
        request_id=origin.request_id,
    )


def _keepable(original: Any) -> Any:
    """The original, or its text where it is nested deeper than consumers' JSON parsers go."""
    if type(original) not in (dict, list):
        return original
    try:
        fields.refuse_deep(original)
    except RejectedError:
        try:
            return orjson.dumps(original).decode()
        except orjson.JSONEncodeError:
            return "(nested too deeply to be kept)"
    return original
