"""Records as bytes on a topic, and as a consumer gets them: with their positions, poll by poll.

The value of a record is the record as JSON, and a header has the request id. Where the request is
traced, another one has its span.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec
import orjson
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from slipstream.broker.log_changes import EpochSpan, spans_of
from slipstream.chassis.logging import TracedId, get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import NewInteraction, Record, Slate, SlateItems
from slipstream.contracts.positions import Position, Source
from slipstream.contracts.slates import RecordedSlate, read_slate
from slipstream.contracts.topics import Topic

REQUEST_ID, TRACEPARENT = "request_id", "traceparent"
_encoded = msgspec.json.Encoder().encode


class MalformedRecordError(ValueError):
    """The bytes are not a record of this topic; the text says why."""


def encode(record: Record | NewInteraction) -> bytes:
    """The record as JSON. Its fields at their default are left out, since readers fill them in."""
    if type(record) is NewInteraction:
        return _encoded(record)
    assert isinstance(record, Record)  # noqa: S101
    defaults, given = _defaults(type(record)), record.model_fields_set
    fields = {
        name: value
        for name, value in record.__dict__.items()
        if name in given and value != defaults[name]
    }
    try:
        if type(items := fields.get("items")) is SlateItems:
            fields["items"] = orjson.Fragment(items.json)
        return orjson.dumps(fields, to_jsonable_python)
    except orjson.JSONEncodeError:
        # Free-form properties may hold what orjson refuses, such as a key that is no string or a
        # number of over 64 bits.
        return record.model_dump_json(exclude_defaults=True).encode()


def encoded(record: Record | NewInteraction | bytes | None) -> bytes | None:
    """The value of a record that may be encoded already; None for a tombstone."""
    return record if record is None or isinstance(record, bytes) else encode(record)


def decode(topic: Topic, value: bytes | None) -> Record:
    """The record in these bytes; raises `MalformedRecordError`."""
    try:
        return topic.record.model_validate_json(value or b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise MalformedRecordError(
            f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
        ) from error


def read(topic: Topic, value: bytes) -> Any:
    """The record in these bytes as consumers take it: that of `decode`, but a `RecordedSlate` of a
    slate. Raises `MalformedRecordError`.
    """
    if topic.record is not Slate:
        return decode(topic, value)
    try:
        return read_slate(value)
    except ValueError:
        # Only the reason is wanted, which `decode` words.
        decode(topic, value)
        raise


def headers_of(request_id: str) -> list[tuple[str, bytes]]:
    headers = [(REQUEST_ID, request_id.encode())] if request_id else []
    if type(request_id) is TracedId:
        headers.append((TRACEPARENT, request_id.traceparent.encode()))
    return headers


def request_id_of(record_headers: Sequence[tuple[str, bytes]]) -> str:
    return next(
        (value.decode(errors="replace") for name, value in record_headers if name == REQUEST_ID), ""
    )


@cache
def _defaults(kind: type[Record]) -> dict[str, Any]:
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
    }


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


# Length of a `traceparent`, version 00: https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT_BYTES: Final = 55


@dataclass(slots=True)
class TracedRecords:
    """The records of a traced request in a batch: their number, and where the first one stands."""

    request_id: TracedId
    source: Source
    offset: int
    records: int = 0


@dataclass(slots=True)
class Batch:
    """The records of one poll, which begin at `first_offsets`.

    Commit `next_offsets` once all of them have had their effect. `traced` has the requests among
    them that are traced, by the `traceparent` of their records.
    """

    messages: list[Message[Any]] = field(default_factory=list)
    malformed: list[MalformedMessage] = field(default_factory=list)
    next_offsets: dict[Source, int] = field(default_factory=dict)
    first_offsets: dict[Source, int] = field(default_factory=dict)
    spans: dict[Source, list[EpochSpan]] = field(default_factory=dict)
    traced: dict[str, TracedRecords] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.messages or self.malformed)

    def add(self, topic: Topic, source: Source, records: Sequence[Any]) -> list[EpochSpan]:
        """Decode records of one partition, and return their epochs. Those without a value only move
        the offset.
        """
        for record in records:
            if record.value is None:
                continue
            rid = request_id_of(record.headers)
            if len(record.headers) > 1:
                rid = self._traced_id(rid, record, source)
            try:
                decoded = read(topic, record.value)
            except MalformedRecordError as error:
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

    def _traced_id(self, rid: str, record: Any, source: Source) -> str:
        """The request id of a record, the same `TracedId` for all records of a traced request."""
        value = next((value for name, value in record.headers if name == TRACEPARENT), b"")
        if len(value) != _TRACEPARENT_BYTES or not value.isascii():
            return rid
        traceparent = value.decode()
        known = self.traced.get(traceparent)
        if known is None:
            known = TracedRecords(TracedId(rid, traceparent), source, record.offset)
            self.traced[traceparent] = known
        known.records += 1
        return known.request_id


@contextmanager
def traced(batch: Batch, metrics: Metrics) -> Iterator[None]:
    """Record the block as the work on a batch, with a span for each traced request in it.

    What is sent about the records within the block belongs to these spans.
    """
    if metrics.tracing is None or not batch.traced:
        yield
        return
    spans = [
        metrics.tracing.consume(each.request_id, each.source, each.offset, each.records)
        for each in batch.traced.values()
    ]
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        for span in spans:
            span.end(failure)


log = get_logger(__name__)


def observe(batch: Batch, metrics: Metrics) -> None:
    """Count a batch, and log malformed records; at debug level log each record.

    So a request id can be followed through the services.
    """
    for topic, records in Counter(message.source.topic for message in batch.messages).items():
        metrics.consumed.labels(topic).inc(records)
    if log.is_enabled_for(logging.DEBUG):
        for message in batch.messages:
            log.debug(
                "consumed",
                topic=message.source.topic,
                partition=message.source.partition,
                offset=message.offset,
                request_id=message.request_id,
            )
    for malformed in batch.malformed:
        metrics.malformed.labels(malformed.source.topic).inc()
        log.warning(
            "malformed record",
            topic=malformed.source.topic,
            offset=malformed.offset,
            reason=malformed.reason,
            request_id=malformed.request_id,
        )
