"""Put what was taken on its topics, and what was rejected on the dead letters; return when the broker has all of it."""

from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter

from services.ingestion import fields
from services.ingestion.verdicts import NOT_KEPT, Origin, Outcome, Rejected, RejectedError, Taken
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Outgoing, Producer
from slipstream.chassis.errors import UnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, INTERACTIONS

log = get_logger(__name__)

RETRY_AFTER_S = 2


class Publisher:
    """Sends the outcomes of a request."""

    def __init__(self, producer: Producer, registry: CollectorRegistry) -> None:
        self._producer = producer
        self._events = Counter(
            "slipstream_ingestion_events_total",
            "Messages that were answered, by source and verdict (accepted, or the code of the rejection)",
            ["source", "verdict"],
            registry=registry,
        )
        self._children: dict[tuple[str, str], Any] = {}

    async def publish(self, outcomes: list[Outcome], origin: Origin) -> None:
        """Return when the broker has acknowledged every record and every dead letter. Raises `UnavailableError` when it has
        not: then nothing may be claimed accepted, and the client sends everything again under the same message ids."""
        outgoing: list[Outgoing] = []
        for outcome in outcomes:
            if isinstance(outcome, Taken):
                for record in outcome.records:
                    if isinstance(record, Interaction):
                        outgoing.append(Outgoing(INTERACTIONS, record.user_id, record, origin.request_id))
                    else:
                        outgoing.append(Outgoing(CATALOG, f"{record.entity}:{record.entity_id}", record, origin.request_id))
            elif outcome.error.code not in NOT_KEPT:
                outgoing.append(Outgoing(DEAD_LETTERS, origin.source, _dead_letter(outcome, origin), origin.request_id))
        try:
            await self._producer.publish(outgoing)
        except BrokerUnavailableError as error:
            log.warning("not acknowledged", source=origin.source, messages=len(outcomes), reason=str(error))
            raise UnavailableError(
                "The broker did not acknowledge; nothing of this request counts as accepted. Send it again",
                code="broker_unavailable",
                retry_after_s=RETRY_AFTER_S,
            ) from error
        for outcome in outcomes:
            self._count(origin.source, "accepted" if isinstance(outcome, Taken) else outcome.error.code)

    def _count(self, source: str, verdict: str) -> None:
        child = self._children.get((source, verdict))
        if child is None:
            child = self._children[source, verdict] = self._events.labels(source, verdict)
        child.inc()


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
