"""Faults of logs: records that a consumer has read, or has still to read, are gone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kafka import TopicPartition

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.standing import ANSWER_MS
from slipstream.chassis.logging import get_logger
from slipstream.contracts.topics import Topic

log = get_logger(__name__)


class FaultKind(StrEnum):
    """What befell a log.

    Attributes:
        DELETED: retention has deleted records before they were read.
        TRUNCATED: the log ended before what had been read, after an unclean election: its newest
            records are lost, and others come under their offsets.
    """

    DELETED = "deleted"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class LogFault:
    """A fault of a partition. `records` counts deleted ones; of a truncated log it is 0."""

    topic: str
    partition: int
    kind: FaultKind
    records: int = 0


class LogFaults:
    """Finds out why a client could not read on where it stood. The polling thread uses it."""

    def __init__(self, client: ConsumerClient, topics: Mapping[str, Topic]) -> None:
        """Of these topics by their names on the broker, for this client of a consumer."""
        self._client, self._topics = client, topics
        self._unexplained: dict[TopicPartition, int] = {}
        self._found: list[LogFault] = []

    def suspect(self) -> bool:
        """Whether the client was moved to another position, and the reason is not known yet."""
        self._unexplained |= self._client.displaced()
        return bool(self._unexplained)

    def explain(self, renewed: Collection[str]) -> None:
        """Look for the reasons. A topic that was made anew has no fault."""
        moved = {at: was for at, was in self._unexplained.items() if at.topic not in renewed}
        begins = self._client.beginnings(list(moved), ANSWER_MS) if moved else {}
        if begins is None:
            return
        self._unexplained.clear()
        for (name, partition), position in moved.items():
            topic, deleted = self._topics[name].name, begins[name, partition] - position
            if deleted > 0:
                fault = LogFault(topic, partition, FaultKind.DELETED, deleted)
                log.error(
                    "retention has deleted records before they were read",
                    topic=topic, partition=partition, records=deleted,
                )  # fmt: skip
            else:
                fault = LogFault(topic, partition, FaultKind.TRUNCATED)
                log.error(
                    "a log ends before what was read of it: a leader without its newest records"
                    " was elected",
                    topic=topic, partition=partition, position=position,
                )  # fmt: skip
            self._found.append(fault)

    def take(self) -> list[LogFault]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found
