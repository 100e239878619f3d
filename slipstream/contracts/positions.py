"""Positions: where a record stands in the stream, and records that carry their position.

Offsets count within a source: one partition of one incarnation of a topic. A topic that is deleted
and made again has a new id, so its records never share a position with those before.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from slipstream.contracts.events import CatalogRecord, Interaction


def source_name(topic_id: str, partition: int) -> str:
    """The name of a source in states and in the lake: "<topic id>:<partition>"."""
    return f"{topic_id}:{partition}"


def split_source(name: str) -> tuple[str, int]:
    """The topic id and the partition that a source's name holds."""
    topic_id, _, partition = name.rpartition(":")
    return topic_id, int(partition)


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


class StreamCatalogRecord(NamedTuple):
    """A catalogue record with its position in the stream."""

    source: str
    offset: int
    record: CatalogRecord
