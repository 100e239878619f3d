"""Changes of logs under a consumer: recreated topics, new leaders, and records that are gone.

A client fetches by a topic's name. A topic that was deleted and made again has another id under the
same name, and its records must not be taken for those of the old one.

Every election of a leader begins a new epoch. Where a leader lacked records that the one before it
had, the log has other records under their offsets. Offset and epoch together name one record.

A log has a fault where records are gone that the consumer has read, or has still to read.
"""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.standing import ANSWER_MS
from slipstream.broker.topics import topic_ids
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source, id_of_log
from slipstream.contracts.topics import Topic


class Incarnations:
    """The ids of a consumer's topics as last learned. `doubt` may come from any thread; the rest
    belongs to the polling thread.
    """

    def __init__(
        self, settings: KafkaSettings, client: ConsumerClient, topics: Mapping[str, Topic]
    ) -> None:
        """Of these topics by their names on the broker, for this client of a consumer."""
        self._settings, self._client, self._topics = settings, client, topics
        self._names = {topic.name: name for name, topic in topics.items()}
        # Each topic's id as last seen; a topic that the broker does not have now keeps it.
        self.ids: dict[str, str] = {}
        # Topics that the broker did not have when it was last asked.
        self.missing: set[str] = set()
        # The offset behind the last record that was read of each partition.
        self._next: dict[TopicPartition, int] = {}
        # The leader epoch at which the log of each partition parted last from what was read.
        self._parted: dict[TopicPartition, int] = {}
        self._connections: set[Any] = set()
        self._doubt = threading.Event()
        self._doubt.set()

    def doubt(self) -> None:
        """Have the ids looked up before anything more is read."""
        self._doubt.set()

    def lose(self, names: Iterable[str]) -> None:
        """Count these topics as missing, and all ids as doubtful: the broker did not answer."""
        self.missing = set(names)
        self._doubt.set()

    @property
    def known(self) -> dict[str, str]:
        """The present id of each topic; empty while they are in doubt or a topic is missing."""
        if self._doubt.is_set():
            return {}
        return {topic.name: self.ids[name] for name, topic in self._topics.items()}

    def forget_offsets(self) -> None:
        """Expect any offset next, and doubt the ids: partitions come or go, or are read again."""
        self._next.clear()
        self._doubt.set()

    def advance(self, partition: TopicPartition, next_offset: int) -> None:
        """Note that a partition was read up to `next_offset`."""
        self._next[partition] = next_offset

    def doubtful(self, polled: Mapping[TopicPartition, list[Any]]) -> bool:
        """Whether the ids may have changed, so that these records would get a wrong `Source`.

        After a broker that keeps nothing has restarted, the client goes on in the middle of the new
        topic until the group has rebalanced; new connections give it away. A topic that was deleted
        and made again shows in the metadata.
        """
        connections = self._client.connections()
        reconnected = not connections <= self._connections
        self._connections = connections
        renewed = any(
            self._client.topic_id(name) not in ("", topic_id) for name, topic_id in self.ids.items()
        )
        if self._doubt.is_set() or reconnected or renewed:
            self._doubt.clear()
            return True
        return any(
            records[0].offset < self._next.get(partition, 0)
            for partition, records in polled.items()
        )

    def learn(self) -> set[str]:
        """Ask the broker for the ids; returns the topics that were recreated since.

        One that the broker does not have now is `missing`, and may be back with the same id in a
        moment. Raises `BrokerUnavailableError`.
        """
        present = topic_ids(self._settings, list(self._topics))
        renewed = {
            name for name, topic_id in present.items() if self.ids.get(name, topic_id) != topic_id
        }
        self.ids |= present
        self.missing = self._topics.keys() - present.keys()
        if self.missing:
            self._doubt.set()
        for noted in (self._next, self._parted):
            for partition in [partition for partition in noted if partition.topic in renewed]:
                del noted[partition]
        return renewed

    def by_source(self, offsets: Mapping[TopicPartition, int | None]) -> dict[Source, int]:
        """These offsets by source, without the unknown ones."""
        return {
            Source(self._topics[name].name, self.ids[name], partition): offset
            for (name, partition), offset in offsets.items()
            if offset is not None and name in self.ids
        }

    def by_partition(self, offsets: Mapping[Source, int]) -> dict[TopicPartition, int]:
        """These offsets by partition, without those of earlier incarnations and missing topics.

        Once an offset of a log that parted has come, those of lost records are left out, too.
        """
        by_partition = {}
        for source, offset in offsets.items():
            name = self._names[source.topic]
            partition = TopicPartition(name, source.partition)
            if name in self.missing or self.ids.get(name) != id_of_log(source.topic_id):
                continue
            if source.parted_at >= self._parted.get(partition, -1):
                self._parted[partition] = source.parted_at
                by_partition[partition] = offset
        return by_partition


UNKNOWN: Final = -1
# Changes of a partition's epoch that are remembered. Offsets that are committed are newer.
_KEPT: Final = 64
_EPOCH = attrgetter("leader_epoch")


class EpochSpan(NamedTuple):
    """Records of one partition that came in a row and were written in one epoch, from the offset
    `first` to `last`.
    """

    epoch: int
    first: int
    last: int


def spans_of(records: Sequence[Any]) -> list[EpochSpan]:
    """The spans of the library's records of one partition; in a log the epochs only grow."""
    if _EPOCH(records[0]) == _EPOCH(records[-1]):
        return [_span(records)]
    return [_span(list(group)) for _, group in groupby(records, _EPOCH)]


class Epochs:
    """The epochs of what a consumer has read. The polling thread uses it."""

    def __init__(self) -> None:
        # Of each partition the first offset read of each epoch, in order.
        self._begun: dict[TopicPartition, list[tuple[int, int]]] = {}

    def note(self, partition: TopicPartition, spans: Sequence[EpochSpan]) -> None:
        """Note what was read; a partition that goes back forgets what lay behind."""
        begun = self._begun.setdefault(partition, [])
        for span in spans:
            while begun and begun[-1][0] >= span.first:
                begun.pop()
            if not begun or begun[-1][1] != span.epoch:
                begun.append((span.first, span.epoch))
        del begun[:-_KEPT]

    def before(self, partition: TopicPartition, offset: int) -> int:
        """The epoch of the record before an offset; `UNKNOWN` for one that was not read."""
        begun = self._begun.get(partition, ())
        return next((epoch for first, epoch in reversed(begun) if first < offset), UNKNOWN)


def _span(records: Sequence[Any]) -> EpochSpan:
    epoch = _EPOCH(records[0])
    return EpochSpan(
        UNKNOWN if epoch is None else int(epoch), records[0].offset, records[-1].offset
    )


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

    def excuse(self, topics: Collection[str]) -> None:
        """Forget the positions that were left in these topics until now: a topic that was recreated
        has no fault.
        """
        self.suspect()
        for partition in [at for at in self._unexplained if at.topic in topics]:
            del self._unexplained[partition]

    def explain(self) -> None:
        """Look for the reasons, unless the broker does not answer."""
        moved = self._unexplained.copy()
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
