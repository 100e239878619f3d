"""Records as a consumer returns them: with their positions, and together for each poll."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from slipstream.broker import codec
from slipstream.broker.epochs import EpochSpan, spans_of
from slipstream.contracts.events import Record
from slipstream.contracts.positions import Position, Source
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.topics import Topic

R = TypeVar("R", bound=Record | RecordedSlate)


@dataclass(frozen=True, slots=True)
class Message(Generic[R]):
    """A record with its position in the stream, and the bytes that it had there."""

    source: Source
    offset: int
    key: str
    record: R
    request_id: str
    size: int = 0

    @property
    def position(self) -> Position:
        """The message's position, without the record."""
        return Position(self.source.name, self.offset)


@dataclass(frozen=True, slots=True)
class MalformedMessage:
    """Bytes on a topic that are not its record, with the reason."""

    source: Source
    offset: int
    value: bytes
    reason: str
    request_id: str


@dataclass(slots=True)
class Batch:
    """The records of one poll, which begin at `first_offsets`.

    Commit `next_offsets` once all of them have had their effect.
    """

    messages: list[Message[Any]] = field(default_factory=list)
    malformed: list[MalformedMessage] = field(default_factory=list)
    next_offsets: dict[Source, int] = field(default_factory=dict)
    first_offsets: dict[Source, int] = field(default_factory=dict)
    spans: dict[Source, list[EpochSpan]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.messages or self.malformed)

    def add(self, topic: Topic, source: Source, records: Sequence[Any]) -> list[EpochSpan]:
        """Decode records of one partition, and return their epochs. Those without a value only move
        the offset.
        """
        for record in records:
            if record.value is None:
                continue
            rid = codec.request_id_of(record.headers)
            try:
                decoded = codec.read(topic, record.value)
            except codec.MalformedRecordError as error:
                self.malformed.append(
                    MalformedMessage(source, record.offset, record.value, str(error), rid)
                )
            else:
                key = record.key.decode(errors="replace") if record.key else ""
                size = len(record.value)
                self.messages.append(Message(source, record.offset, key, decoded, rid, size))
        self.first_offsets.setdefault(source, records[0].offset)
        self.next_offsets[source] = records[-1].offset + 1
        self.spans[source] = spans = spans_of(records)
        return spans
