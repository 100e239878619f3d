"""Rows that are pushed, as records of the stream: what is pushed goes the way of everything else,
so that it is counted once, in the online store and in the lake.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson
from pydantic import ValidationError

from slipstream.broker.producer import Outgoing
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.times import parse_iso
from slipstream.contracts.topics import CATALOG, INTERACTIONS
from slipstream.contracts.vocabulary import MAX_POSITION

Frame = Mapping[str, Sequence[Any]]

# What can be pushed to, in the order in which it is told.
SOURCES: Final = ("interactions", "items", "users")
MOST_ROWS: Final = 5_000
# A row may have as many bytes of JSON as an event that comes through ingestion.
MOST_ROW_BYTES: Final = 32_768
# Faults told of one push.
_FAULTS_TOLD: Final = 20
# A number below this is a time in seconds: in milliseconds it would be a day of 1973 or before.
_EARLIEST_MS: Final = 100_000_000_000
_LATEST_MS: Final = 253_402_300_800_000
_TIMES: Final = ("timestamp", "event_timestamp")
_IDS: Final = ("event_id", "user_id", "item_id", "anonymous_id", "session_id", "recommendation_id")
_OF_INTERACTION: Final = frozenset({*_IDS, "event_type", "value", "position", "properties"})
_OF_ENTRY: Final = frozenset({"attributes", "available", "deleted"})


class UnknownSourceError(ValueError):
    """There is nothing of this name that can be pushed to."""


class RefusedRowsError(ValueError):
    """Some rows are no records, so nothing was pushed. `faults` tells of the first: field
    (`df.<column>.<row>`), reason, code.
    """

    def __init__(self, faults: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{fault['field']}: {fault['reason']}" for fault in faults[:5]))
        self.faults = faults


def records(
    source: str, frame: Frame, now_ms: int, max_ahead_ms: int, request_id: str = ""
) -> list[Outgoing]:
    """A record for each row of the columns in `frame`; a null is a value that is not given.

    `interactions` takes the fields of `Interaction`, everything else in a row becomes a property.
    Rows with an `event_id` may be sent again: who counts looks for the first copy. They may be of
    any age, like imported history. `items` and `users` take `available` and `deleted`, everything
    else becomes an attribute. `event_timestamp` or `timestamp` is when it happened, in ISO 8601
    (UTC where nothing else is said) or milliseconds; now, where there is none.

    Raises `UnknownSourceError`, and `RefusedRowsError` when any row is refused.
    """
    if source not in SOURCES:
        raise UnknownSourceError(
            f"Unable to find push source {source!r}; there are {', '.join(SOURCES)}"
        )
    lengths = {len(column) for column in frame.values()}
    if len(lengths) != 1:
        raise RefusedRowsError(
            [_fault("df", "all columns must have the same number of rows", "unequal_columns")]
        )
    count = lengths.pop()
    if not 1 <= count <= MOST_ROWS:
        raise RefusedRowsError(
            [_fault("df", f"1 to {MOST_ROWS} rows can be pushed at once", "too_many_rows")]
        )
    made: list[Outgoing] = []
    faults: list[dict[str, str]] = []
    for number in range(count):
        row = {name: column[number] for name, column in frame.items() if column[number] is not None}
        try:
            made.append(_record(source, row, now_ms, max_ahead_ms, request_id))
        except _RowError as error:
            faults.append(
                _fault(
                    f"df.{error.column}.{number}" if error.column else f"df.{number}",
                    error.reason,
                    error.code,
                )
            )
        except ValidationError as error:
            faults += [
                _fault(f"df.{_column(source, told['loc'])}.{number}", told["msg"], told["type"])
                for told in error.errors()
            ]
        if len(faults) >= _FAULTS_TOLD:
            break
    if faults:
        raise RefusedRowsError(faults[:_FAULTS_TOLD])
    return made


class _RowError(ValueError):
    def __init__(self, column: str, reason: str, code: str) -> None:
        super().__init__(reason)
        self.column, self.reason, self.code = column, reason, code


def _record(
    source: str, row: dict[str, Any], now_ms: int, max_ahead_ms: int, request_id: str
) -> Outgoing:
    try:
        size = len(orjson.dumps(row))
    except TypeError:
        raise _RowError(
            "",
            "holds a whole number of more than 64 bits, or is nested too deeply",
            "invalid_value",
        ) from None
    if size > MOST_ROW_BYTES:
        raise _RowError("", f"a row may have at most {MOST_ROW_BYTES} bytes", "row_too_large")
    timestamp = _timestamp(row, now_ms, max_ahead_ms)
    ids: dict[str, Any] = {name: _as_id(row[name]) for name in _IDS if name in row}
    if source == "interactions":
        return _interaction(row, ids, timestamp, now_ms, request_id)
    entity = "item" if source == "items" else "user"
    key = f"{entity}_id"
    given = _object(row, "attributes")
    beside = {
        name: value
        for name, value in row.items()
        if name != key and name not in _OF_ENTRY and name not in _TIMES
    }
    entry = CatalogRecord.model_validate(
        {
            "entity": entity,
            **({"entity_id": ids[key]} if key in ids else {}),
            "attributes": {**beside, **given},
            **{name: row[name] for name in ("available", "deleted") if name in row},
            "timestamp": timestamp,
            "source": "push",
        }
    )
    return Outgoing(CATALOG, f"{entity}:{entry.entity_id}", entry, request_id)


def _interaction(
    row: dict[str, Any], ids: dict[str, Any], timestamp: int, now_ms: int, request_id: str
) -> Outgoing:
    beside = {
        name: value
        for name, value in row.items()
        if name not in _OF_INTERACTION and name not in _TIMES
    }
    if isinstance(position := row.get("position"), int) and position > MAX_POSITION:
        raise _RowError("position", f"is over {MAX_POSITION}", "position_out_of_range")
    event = Interaction.model_validate(
        {
            "event_id": uuid4().hex,
            **ids,
            **{name: row[name] for name in ("event_type", "value", "position") if name in row},
            "timestamp": timestamp,
            "received_at": now_ms,
            "source": "push",
            "properties": {**beside, **_object(row, "properties")},
            "maybe_repeat": "event_id" in ids,
            "imported": True,
        }
    )
    return Outgoing(INTERACTIONS, event.user_id, event, request_id)


def _timestamp(row: dict[str, Any], now_ms: int, max_ahead_ms: int) -> int:
    name = next((name for name in _TIMES if name in row), None)
    if name is None:
        return now_ms
    value = row[name]
    if isinstance(value, str):
        try:
            millis = parse_iso(value)
        except ValueError:
            raise _RowError(name, "is no time in ISO 8601", "invalid_timestamp") from None
    elif type(value) in (int, float) and _EARLIEST_MS <= value < _LATEST_MS:
        millis = int(value)
    else:
        raise _RowError(
            name, "must be a time in ISO 8601 or in milliseconds since 1970", "invalid_timestamp"
        )
    if millis < 0:
        raise _RowError(name, "is before 1970", "invalid_timestamp")
    if millis > now_ms + max_ahead_ms:
        raise _RowError(name, "is too far ahead of the present", "timestamp_ahead")
    return millis


def _as_id(value: Any) -> Any:
    """A whole number is an id as well as its text; whatever else is no text is refused by the
    record.
    """
    return str(value) if type(value) is int else value


def _object(row: dict[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name, {})
    if isinstance(value, str):  # as it comes out of a column of text
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if not isinstance(value, dict):
        raise _RowError(name, "must be an object", "invalid_value")
    return value


def _column(source: str, place: tuple[int | str, ...]) -> str:
    """The column that a field of the record came from."""
    name = str(place[0])
    return f"{source.removesuffix('s')}_id" if name == "entity_id" else name


def _fault(field: str, reason: str, code: str) -> dict[str, str]:
    return {"field": field, "reason": reason, "code": code}
