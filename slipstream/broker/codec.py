"""Records to bytes and back: the value is the record as JSON, and a header has the request id."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import orjson
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from slipstream.contracts.events import NewInteraction, Record, Slate, SlateItems
from slipstream.contracts.slates import read_slate
from slipstream.contracts.topics import Topic

REQUEST_ID = "request_id"
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


def headers(request_id: str) -> list[tuple[str, bytes]]:
    return [(REQUEST_ID, request_id.encode())] if request_id else []


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
