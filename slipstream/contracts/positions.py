"""Positions: where a record stands in the stream, and records that carry their position.

A state has the offsets of the records that it holds, so that a record read twice counts once.

Offsets count within a source: one partition of one incarnation of a topic. A topic that is deleted
and made again has a new id, so its records never share a position with those before. Nor do records
that took the offsets of lost ones, after an unclean election: the leader epoch at which the log
parted from what had been read stands behind the topic's id then ("<topic id>~<epoch>").
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple, Protocol, TypeVar

from slipstream.contracts.events import CatalogRecord, Interaction

# Between a topic's id and the leader epoch at which a partition's log parted from what was read.
_PARTED: Final = "~"


def id_of_log(topic_id: str) -> str:
    """The topic's id on the broker, of an id that may name the epoch at which a log parted, too."""
    return topic_id.partition(_PARTED)[0]


def source_name(topic_id: str, partition: int) -> str:
    """The name of a source in states and in the lake: "<topic id>:<partition>"."""
    return f"{topic_id}:{partition}"


def split_source(name: str) -> tuple[str, int]:
    """The topic id and the partition that a source's name holds."""
    topic_id, _, partition = name.rpartition(":")
    return topic_id, int(partition)


# A cut through the topics: by topic, the next offset of each source. It divides what came before a
# moment from what came after it, whatever the clocks say.
Cut = Mapping[str, Mapping[str, int]]


def stands_before(cut: Cut, source: str, offset: int) -> bool | None:
    """Whether a position stands before the cut; None where the cut does not know its topic.

    A partition that a known topic has gained since is behind the cut.
    """
    topic_id = split_source(source)[0]
    for ends in cut.values():
        if source in ends:
            return offset < ends[source]
        if any(split_source(other)[0] == topic_id for other in ends):
            return False
    return None


def has_passed(committed: Mapping[str, int], cut: Cut) -> bool:
    """Whether a group that has committed these offsets has everything from before the cut.

    Topics that it does not read are ignored. One that was recreated since has nothing left from
    before the cut.
    """
    topics = {split_source(source)[0] for source in committed}
    return all(
        committed.get(source, 0) >= end
        for ends in cut.values()
        for source, end in ends.items()
        if split_source(source)[0] in topics
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A partition of one incarnation (`topic_id`) of the topic that `TOPICS` calls `topic`."""

    topic: str
    topic_id: str
    partition: int

    @property
    def name(self) -> str:
        """The source's name in states and in the lake: "<topic id>:<partition>"."""
        return source_name(self.topic_id, self.partition)

    @property
    def parted_at(self) -> int:
        """The leader epoch with which this source begins; -1 for that of a log that never parted
        from what was read of it.
        """
        return int(self.topic_id.partition(_PARTED)[2] or -1)

    def since(self, epoch: int) -> "Source":
        """The source of the records that took the offsets of lost ones, from a leader epoch on."""
        return Source(self.topic, f"{id_of_log(self.topic_id)}{_PARTED}{epoch}", self.partition)


class StreamRecord(Protocol):
    """A record, or a part of one, with its position. `source` is the name of a `Source`."""

    @property
    def source(self) -> str: ...

    @property
    def offset(self) -> int: ...


class Position(NamedTuple):
    """The position of a record, without the record."""

    source: str
    offset: int


class StreamInteraction(NamedTuple):
    """An interaction with its position in the stream."""

    source: str
    offset: int
    interaction: Interaction


class CatalogPlace(NamedTuple):
    """Place of a catalogue record among those of the same entity.

    Of two records the later one in a log counts, so that the clocks of two replicas of ingestion
    decide nothing. Times decide where clients have told both, and between logs. `put_newer.lua` has
    the rule, too.
    """

    source: str
    offset: int
    timestamp: int
    client_time: bool

    def replaces(self, held: "CatalogPlace") -> bool:
        """Whether a record here takes the place of the one that is kept."""
        if self.source != held.source or not self.source:
            return self.timestamp >= held.timestamp
        if self.client_time and held.client_time:
            return (self.timestamp, self.offset) > (held.timestamp, held.offset)
        return self.offset > held.offset


class StreamCatalogRecord(NamedTuple):
    """A catalogue record with its position in the stream."""

    source: str
    offset: int
    record: CatalogRecord

    @property
    def place(self) -> "CatalogPlace":
        """What decides whether this replaces another record of the same entity."""
        record = self.record
        return CatalogPlace(self.source, self.offset, record.timestamp, record.client_time)


E = TypeVar("E")


def in_order_of_logs(
    entries: Iterable[E], place: Callable[[E], CatalogPlace] = attrgetter("place")
) -> list[E]:
    """Catalogue entries, each log in its order; of recreated topics, the older one comes first."""
    placed = [(place(entry), entry) for entry in entries]
    begun: dict[str, int] = {}
    for at, _ in placed:
        topic_id = split_source(at.source)[0]
        begun[topic_id] = min(at.timestamp, begun.get(topic_id, at.timestamp))

    def order(pair: tuple[CatalogPlace, E]) -> tuple[int, str, int]:
        at = pair[0]
        return begun[split_source(at.source)[0]], at.source, at.offset

    return [entry for _, entry in sorted(placed, key=order)]


# A topic that is deleted and made again has a new id, and so new sources. Only the newest topics
# stay in a state: older ones can't be read any more, and a state would grow with every restart of a
# broker that keeps nothing.
TOPICS_KEPT: Final = 4


P = TypeVar("P", bound=StreamRecord)


def advance(applied: Mapping[str, int], records: Iterable[P]) -> tuple[dict[str, int], list[P]]:
    """`applied` (source → last offset) after these records, and the records new to it, in order.

    The records of one source must come in the order of their offsets, as a log gives them.
    """
    after = dict(applied)
    fresh = []
    for record in records:
        if record.offset > after.get(record.source, -1):
            after[record.source] = record.offset
            fresh.append(record)
    return newest_topics(after), fresh


def furthest(offsets: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Both, each source with the higher offset. The other's sources come last, as the newest."""
    both = {source: offset for source, offset in offsets.items() if source not in other}
    both.update((source, max(offset, offsets.get(source, -1))) for source, offset in other.items())
    return newest_topics(both)


def newest_topics(applied: dict[str, int]) -> dict[str, int]:
    """The offsets of the newest topics. Sources stand in the order of their first record."""
    if len(applied) <= TOPICS_KEPT:
        return applied
    topics = list(dict.fromkeys(_topic(source) for source in applied))
    dropped = set(topics[:-TOPICS_KEPT])
    if not dropped:
        return applied
    return {source: offset for source, offset in applied.items() if _topic(source) not in dropped}


def _topic(source: str) -> str:
    return id_of_log(split_source(source)[0])
