"""Rows that Feast clients push, turned into records of the stream.

A pushed row goes the way of every other event, so that it counts once, online and in the lake.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import orjson
from pydantic import ValidationError

from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.bodies import in_slices
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.late_records import new_erasure_id
from slipstream.contracts.topics import INTERACTIONS, topic_of
from slipstream.contracts.vocabulary import MAX_POSITION
from slipstream.ingress import fields
from slipstream.ingress.fields import Code, RejectionError, check_item_attributes, told_availability
from slipstream.ingress.privacy import Privacy, without_write_keys

Frame = Mapping[str, Sequence[Any]]
Row = dict[str, Any]
Fault = dict[str, str]

# Push sources, in the order in which an error lists them.
SOURCES: Final = ("interactions", "items", "users")
MAX_ROWS: Final = 5_000
# Faults that the answer to one push lists.
MAX_FAULTS: Final = 20
_TIMES: Final = ("timestamp", "event_timestamp")
_IDS: Final = ("event_id", "user_id", "anonymous_id")
# Columns that an event of ingestion carries among its properties, where the privacy policy holds.
_PROPERTY_IDS: Final = ("item_id", "session_id", "recommendation_id")
_PROPERTY_COLUMNS: Final = (*_PROPERTY_IDS, "value", "position")
_INTERACTION_COLUMNS: Final = frozenset(
    {*_IDS, *_PROPERTY_COLUMNS, *_TIMES, "event_type", "properties"}
)
_FLAGS: Final = ("available", "deleted")
_ENTRY_COLUMNS: Final = frozenset({*_TIMES, *_FLAGS, "attributes"})


@dataclass(frozen=True, slots=True)
class PushRules:
    """The rules of pushes, from settings and from who pushes.

    Attributes:
        privacy: What is removed from rows.
        max_ahead_ms: How far after its arrival a row may say that it happened.
        principal: Who pushes: an erasure's audit record names it.
        may_erase: Whether a row may delete a user.
        resent: Whether the client sends again what was not answered: an event with a time gets an
            id of its contents then.
    """

    privacy: Privacy
    max_ahead_ms: int = fields.MAX_AHEAD_MS
    principal: str = "push"
    may_erase: bool = False
    resent: bool = False


class UnknownSourceError(ValueError):
    """Raised for a push source that does not exist."""


class RefusedRowsError(ValueError):
    """Raised when a push holds bad rows; nothing of it was pushed.

    `faults` lists the first of them, each with `field` (`df.<column>.<row>`), `reason` and `code`.
    """

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault['field']}: {fault['reason']}" for fault in faults[:5]))
        self.faults = faults


async def records(
    source: str, frame: Frame, rules: PushRules, now_ms: int, request_id: str = ""
) -> list[OutgoingRecord]:
    """A record for each row of the frame, made in slices.

    `interactions` takes the fields of `Interaction`; every other column becomes a property. Rows
    may be of any age, like imported history. Rows with an `event_id` may be pushed again: consumers
    look for the first copy.

    `items` and `users` take `available` and `deleted`; every other column becomes an attribute.

    `timestamp` or `event_timestamp` says when it happened, in ISO 8601 or milliseconds. A row
    without a time happened now.

    Args:
        source: One of `SOURCES`.
        frame: Columns of equal length, by name. Null means that a row has no such value.
        rules: Privacy policy and limit of time.
        now_ms: The present, in milliseconds since the epoch.
        request_id: Id of the request, kept in the headers of its records.

    Raises `UnknownSourceError`, and `RefusedRowsError` if any row is bad.
    """
    if source not in SOURCES:
        raise UnknownSourceError(
            f"Unable to find push source {source!r}; there are {', '.join(SOURCES)}"
        )
    made: list[OutgoingRecord] = []
    faults: list[Fault] = []
    async for number in in_slices(range(_row_count(frame))):
        row = {name: column[number] for name, column in frame.items() if column[number] is not None}
        try:
            record = (
                _interaction(row, rules, now_ms)
                if source == "interactions"
                else _entry("item" if source == "items" else "user", row, rules, now_ms)
            )
            made.append(_outgoing(record, request_id))
        except RejectionError as error:
            column = (error.field or "").partition(".")[0]
            faults.append(_fault(_place(column, number), str(error), error.code))
        except ValidationError as error:
            faults += [
                _fault(
                    _place(str(detail["loc"][0]), number),
                    detail["msg"],
                    Code.INVALID_NAME if detail["loc"][0] == "event_type" else Code.INVALID_VALUE,
                )
                for detail in error.errors()
            ]
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise RefusedRowsError(faults[:MAX_FAULTS])
    return made


def _row_count(frame: Frame) -> int:
    lengths = {len(column) for column in frame.values()}
    if len(lengths) != 1:
        raise RefusedRowsError(
            [_fault("df", "all columns must have the same number of rows", "unequal_columns")]
        )
    count = lengths.pop()
    if not 1 <= count <= MAX_ROWS:
        raise RefusedRowsError(
            [_fault("df", f"1 to {MAX_ROWS} rows can be pushed at once", "too_many_rows")]
        )
    return count


def _interaction(row: Row, rules: PushRules, now_ms: int) -> Interaction:
    given = _checked_object(row, "properties")
    timestamp = _timestamp(row, rules, now_ms)
    ids = _ids(row, _IDS)
    if "user_id" not in ids:
        raise RejectionError(Code.MISSING_USER, "user_id is required", "user_id")
    if row.get("event_type") in (None, ""):
        raise RejectionError(Code.MISSING_NAME, "event_type is required", "event_type")
    own = rules.privacy.published({name: row[name] for name in _PROPERTY_COLUMNS if name in row})
    further = {name: value for name, value in row.items() if name not in _INTERACTION_COLUMNS}
    record = Interaction.model_validate(
        {
            "event_id": uuid4().hex,
            **ids,
            **_ids(own, _PROPERTY_IDS),
            "event_type": row["event_type"],
            "value": fields.as_value(own["value"], "value") if "value" in own else None,
            "position": _position(own),
            "timestamp": timestamp,
            "received_at": now_ms,
            "source": "push",
            "properties": rules.privacy.published({**further, **given}),
            "maybe_repeat": "event_id" in ids,
            "imported": True,
        }
    )
    if not rules.resent or "event_id" in ids or not any(name in row for name in _TIMES):
        return record
    return record.model_copy(update={"event_id": _id_of(record), "maybe_repeat": True})


def _id_of(record: Interaction) -> str:
    """An id that an event of the same contents gets, too."""
    contents = record.model_dump(mode="json", exclude={"event_id", "received_at"})
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:32]


def _entry(entity: str, row: Row, rules: PushRules, now_ms: int) -> CatalogRecord:
    key = f"{entity}_id"
    given = _checked_object(row, "attributes")
    timestamp = _timestamp(row, rules, now_ms)
    entity_id = fields.as_id(row.get(key), key)
    if entity_id is None:
        raise RejectionError(Code.INVALID_ID, f"{key} is required", key)
    further = {
        name: value for name, value in row.items() if name != key and name not in _ENTRY_COLUMNS
    }
    attributes = {**further, **given}
    if entity == "item":
        check_item_attributes(
            attributes, lambda name: f"attributes.{name}" if name in given else name
        )
        attributes = without_write_keys(attributes)
    else:
        attributes = rules.privacy.published(attributes)
    record = CatalogRecord.model_validate(
        {
            "entity": entity,
            "entity_id": entity_id,
            "attributes": attributes,
            **_flags(entity, row, attributes),
            "timestamp": timestamp,
            "source": "push",
            "client_time": any(name in row for name in _TIMES),
        }
    )
    if entity != "user" or not record.deleted:
        return record
    if not rules.may_erase:
        raise RejectionError(
            Code.SCOPE_MISSING, "a row that deletes a user needs the scope admin", "deleted"
        )
    erasure = {"source": rules.principal, "erasure_id": new_erasure_id(now_ms)}
    return record.model_copy(update=erasure)


def _flags(entity: str, row: Row, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `available` and `deleted`, or what an item's `in_stock` says of the former."""
    flags: dict[str, Any] = {name: row[name] for name in _FLAGS if name in row}
    told = told_availability(attributes) if entity == "item" else None
    return flags if told is None else {"available": told, **flags}


def _checked_object(row: Row, name: str) -> dict[str, Any]:
    """The object in the column `name`, or the one that its text is. Checks the row's size, too.

    Clients with text columns send objects as JSON in a string.
    """
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise RejectionError(Code.INVALID_OBJECT, f"{name} must be an object", name) from None
    given = fields.as_object(value, name)
    whole = {**row, name: given}
    fields.refuse_deep(whole)
    fields.refuse_large(whole, fields.MAX_EVENT_BYTES, "a row")
    return given


def _timestamp(row: Row, rules: PushRules, now_ms: int) -> int:
    name = next((name for name in _TIMES if name in row), None)
    if name is None:
        return now_ms
    return fields.refuse_future(fields.as_millis(row[name], name), now_ms, name, rules.max_ahead_ms)


def _ids(row: Row, names: Sequence[str]) -> dict[str, str]:
    """The ids that the row holds, without the empty ones."""
    ids = {name: fields.as_id(row[name], name) for name in names if name in row}
    return {name: value for name, value in ids.items() if value is not None}


def _position(row: Row) -> int | None:
    position = fields.position_or_none(row.get("position"))
    if position is None and "position" in row:
        raise RejectionError(
            Code.INVALID_VALUE,
            f"position must be a whole number from 0 to {MAX_POSITION}",
            "position",
        )
    return position


def _outgoing(record: Interaction | CatalogRecord, request_id: str) -> OutgoingRecord:
    if isinstance(record, Interaction):
        return OutgoingRecord(INTERACTIONS, record.user_id, record, request_id)
    key = f"{record.entity}:{record.entity_id}"
    return OutgoingRecord(topic_of(record), key, record, request_id)


def _place(column: str, number: int) -> str:
    return f"df.{column}.{number}" if column else f"df.{number}"


def _fault(field: str, reason: str, code: str) -> Fault:
    return {"field": field, "reason": reason, "code": str(code)}
