"""Conversion of rows: each becomes an event, an item, or a rejection with its reason.

Ids of events follow from their rows, so that a file read again has the same. The file of rejected
rows has each with its line, the reason, and its cells, for whoever repairs.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TextIO, TypeVar

import orjson

from slipstream.contracts.spellings import token
from slipstream.contracts.vocabulary import PURCHASE, REMOVE, SEARCH, SIGNAL_WEIGHTS
from slipstream.datasets.imports import cells
from slipstream.datasets.imports.cells import at_clock, read_time
from slipstream.datasets.imports.columns import SKIP, known_type
from slipstream.datasets.imports.nested import is_call
from slipstream.datasets.imports.sources import Row
from slipstream.datasets.imports.understanding import Choices, Understanding

# Types that are about an item: all that say something of liking, but a search.
_OF_AN_ITEM: Final = frozenset(SIGNAL_WEIGHTS) - {SEARCH}
# Calls of Segment that are no events.
_ABOUT_PEOPLE: Final = ("identify", "alias", "group")
# Ids of a product in a list of them, as ingestion reads them.
ITEM_KEYS: Final = ("item_id", "product_id", "sku")
T = TypeVar("T")
# Words of `status` for what visitors don't see.
_NOT_PUBLISHED: Final = frozenset({"draft", "archived", "private", "entwurf", "archiviert"})
_OWN_FIELDS: Final = frozenset(
    {"user_id", "anonymous_id", "event_type", "timestamp", "time_of_day", "event_id"}
)


class Rejection(NamedTuple):
    """A row that is not sent.

    `field` is the column at fault, if there is one.
    """

    line: int
    code: str
    field: str
    reason: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a file.

    Attributes:
        visitor: Id of the user, else of the anonymous visitor.
        timestamp: In ms.
        event_type: Our type; "" where the row names none, or one that is not known.
        identity: What tells it from other events. Rows of equal identity in one file are several
            events, unless `unique`.
        unique: Whether the identity names an order's line, or comes from the export.
        call: The track call, without its name and message id.
    """

    line: int
    visitor: str
    timestamp: int
    event_type: str
    type_name: str
    identity: tuple[str, ...]
    unique: bool
    call: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a file, with its attributes and `item_id`."""

    line: int
    entry: dict[str, Any]


class Conversion:
    """The conversion of the rows of one file, which counts what it had to interpret.

    `rows` are those of the file. `refunds` are purchases with a negative value or quantity.
    `skipped` are rows of types that somebody chose to leave out.
    """

    def __init__(self, understanding: Understanding, choices: Choices) -> None:
        self._understanding, self._choices = understanding, choices
        self.rows = self.refunds = self.skipped = 0

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows of the file, as they are read."""
        for row in rows:
            self.rows += 1
            yield row

    def event(self, row: Row) -> Event | Rejection | None:
        """The event of a row; None where its type is one to leave out."""
        if row.fault:
            return Rejection(row.line, "unreadable_row", "", row.fault, row.cells)
        values = _Values(row, self._understanding)
        try:
            return self._event(values)
        except _Fault as fault:
            return Rejection(row.line, fault.code, fault.column, str(fault), row.cells)

    def item(self, row: Row) -> Item | Rejection:
        """The item of a row."""
        if row.fault:
            return Rejection(row.line, "unreadable_row", "", row.fault, row.cells)
        values = _Values(row, self._understanding)
        try:
            return Item(row.line, _item(values))
        except _Fault as fault:
            return Rejection(row.line, fault.code, fault.column, str(fault), row.cells)

    def _event(self, values: "_Values") -> Event | None:
        user, anonymous = values.id("user_id"), values.id("anonymous_id")
        if user == "0" and self._understanding.lines:
            user = None  # WooCommerce's guests
        visitor = user or anonymous
        if visitor is None:
            raise values.fault("missing_user", "user_id", "is empty")
        timestamp = values.time("timestamp")
        if timestamp is None:
            raise values.fault("missing_timestamp", "timestamp", "is empty")
        name, event_type = self._type(values)
        if event_type == SKIP:
            self.skipped += 1
            return None
        is_named = self._understanding.calls and is_call(values.row.cells)
        kind = values.row.cells["type"] if is_named else "track"
        if kind in _ABOUT_PEOPLE:
            return _call_about_people(values, user, anonymous, timestamp)
        if kind in ("page", "screen"):
            event_type = kind
        properties = _properties(values)
        if event_type == PURCHASE and any(
            properties.get(each, 0) < 0 for each in ("value", "quantity", "price")
        ):
            event_type, self.refunds = REMOVE, self.refunds + 1
        item = "|".join(items_of(properties))
        if not item and event_type in _OF_AN_ITEM:
            raise values.fault("missing_item", "item_id", "is empty")
        order, line = values.id("order_id"), values.id("order_line")
        given = values.id("event_id")
        identity: tuple[str, ...] = (visitor, item, event_type or name, str(timestamp))
        if given:
            of_a_line = (line or "", item) if self._understanding.lines else ()
            identity = ("event", given, *of_a_line)
        elif order:
            identity = ("order", order, line or "", *identity)
        call = _call(kind, user, anonymous, timestamp) | {"properties": properties}
        unique = bool(given or order)
        return Event(values.row.line, visitor, timestamp, event_type, name, identity, unique, call)

    def _type(self, values: "_Values") -> tuple[str, str]:
        """The type as the row names it, and ours; the latter is empty where it is not known.

        An order that was cancelled says so in its `status`; then that is asked about.
        """
        value = values.present("event_type")
        status = str(values.present("status") or "").strip()
        if value is None and known_type(status) == REMOVE:
            return status, self._choices.types.get(token(status), "")
        if value is None:
            return "", self._choices.event_type
        name = str(value).strip()
        return name, self._choices.types.get(token(name)) or known_type(name) or ""


def _call(kind: str, user: str | None, anonymous: str | None, timestamp: int) -> dict[str, Any]:
    names = {"type": kind, "userId": user, "anonymousId": anonymous, "timestamp": timestamp}
    return {name: value for name, value in names.items() if value is not None}


def _call_about_people(
    values: "_Values", user: str | None, anonymous: str | None, timestamp: int
) -> Event:
    """An identify, alias or group call of Segment, which says who a visitor is."""
    cells, given = values.row.cells, values.id("event_id")
    kind: str = cells["type"]
    said = {name: cells[name] for name in ("traits", "previousId", "groupId") if name in cells}
    visitor = str(user or anonymous)
    text = orjson.dumps(said, default=str, option=orjson.OPT_SORT_KEYS).decode()
    identity = ("event", given) if given else (visitor, kind, str(timestamp), text)
    call = _call(kind, user, anonymous, timestamp) | said
    return Event(values.row.line, visitor, timestamp, kind, kind, identity, True, call)


def items_of(properties: Mapping[str, Any]) -> list[str]:
    """The ids of the items of an event, in the order of its products."""
    products = properties.get("products")
    named = [properties.get("item_id")]
    for product in products if isinstance(products, list) else ():
        keys = product if isinstance(product, dict) else {"item_id": product}
        named.append(next((keys[key] for key in ITEM_KEYS if keys.get(key)), None))
    return [str(item) for item in named if item]


class _Fault(ValueError):
    def __init__(self, code: str, column: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.column = code, column


class _Values:
    """The fields of one row. Its methods return None for a missing cell, and raise `_Fault`."""

    def __init__(self, row: Row, understanding: Understanding) -> None:
        self.row, self.understanding = row, understanding
        self._columns = understanding.columns

    def fault(self, code: str, field: str, reason: str) -> _Fault:
        return _Fault(code, self._columns.get(field, field), reason)

    def present(self, field: str) -> Any:
        column = self._columns.get(field)
        value = None if column is None else self.row.cells.get(column)
        return None if cells.is_missing(value) else value

    def id(self, field: str) -> str | None:
        return self._read(field, cells.read_id, "invalid_id")

    def time(self, field: str) -> int | None:
        form = self.understanding.time
        clock = self.present("time_of_day") if field == "timestamp" else None

        def read(value: Any) -> int:
            return read_time(value if clock is None else at_clock(value, clock), form)

        return self._read(field, read, "invalid_timestamp")

    def amount(self, field: str) -> cells.Amount | None:
        mark = self.understanding.mark
        return self._read(field, lambda value: cells.read_amount(value, mark))

    def flag(self, field: str) -> bool | None:
        return self._read(field, cells.read_flag)

    def text(self, field: str) -> str | None:
        return self._read(field, _first_text)

    def texts(self, field: str) -> list[str] | None:
        return self._read(field, cells.read_list)

    def free(self, field: str) -> Any:
        """The value of a field that has no form of its own, as most of its column are."""
        reading = self.understanding.readings.get(field, "text")
        if reading == "number":
            amount = self.amount(field)
            return None if amount is None else _number(amount.number)
        if reading == "flag":
            return self.flag(field)
        if reading == "list":
            return self.texts(field)
        return self._read(field, _plain)

    def _read(
        self, field: str, reader: Callable[[Any], T], code: str = "invalid_value"
    ) -> T | None:
        value = self.present(field)
        if value is None:
            return None
        try:
            return reader(value)
        except cells.CellError as error:
            raise self.fault(code, field, str(error)) from error


def _properties(values: _Values) -> dict[str, Any]:
    """The properties of an event, those that ingestion knows and all others."""
    properties: dict[str, Any] = {}
    for field in values.understanding.fields.values():
        if field in _OWN_FIELDS:
            continue
        if field == "item_id":
            _add_items(properties, values)
        elif field in ("value", "price", "quantity"):
            if (amount := values.amount(field)) is not None:
                properties[field] = _number(amount.number)
                if amount.currency and values.present("currency") is None:
                    properties["currency"] = amount.currency
        elif field == "rating":
            if (amount := values.amount(field)) is not None:
                properties[field] = amount.number
        elif field in ("order_id", "order_line", "session_id", "recommendation_id"):
            if (value := values.id(field)) is not None:
                properties[field] = value
        elif (value := values.free(field)) is not None:
            properties[field] = value
    return properties


def _add_items(properties: dict[str, Any], values: _Values) -> None:
    """Add the item of an event, or its list of items."""
    value = values.present("item_id")
    if isinstance(value, list) or (isinstance(value, str) and "|" in value):
        properties["products"] = values.texts("item_id")
    elif (item := values.id("item_id")) is not None:
        properties["item_id"] = item


def _item(values: _Values) -> dict[str, Any]:
    """An entry of the catalogue."""
    item_id = values.id("item_id")
    if item_id is None:
        raise values.fault("missing_item", "item_id", "is empty")
    entry: dict[str, Any] = {"item_id": item_id}
    for field in values.understanding.fields.values():
        value: Any = None
        if field in ("price", "sale_price", "stock"):
            if (amount := values.amount(field)) is not None:
                value = _number(amount.number)
                if amount.currency and values.present("currency") is None:
                    entry["currency"] = amount.currency
        elif field == "available":
            value = values.flag(field)
        elif field == "expires_at":
            value = values.time(field)
        elif field == "item_group_id":
            value = values.id(field)
        elif field in ("title", "description", "image_url", "url", "brand"):
            value = values.text(field)
        elif field == "categories":
            value = values.texts(field)
        elif field not in ("item_id", "category"):
            value = values.free(field)
        if value is not None:
            entry[field] = value
    # Shops have both: Shopify's own types stand next to the categories of a product taxonomy.
    if category := values.texts("category"):
        entry["categories"] = list(dict.fromkeys([*entry.get("categories", ()), *category]))
    if "available" not in entry and "stock" in entry:
        entry["available"] = entry["stock"] > 0
    if str(values.present("status")).strip().lower() in _NOT_PUBLISHED:
        entry["available"] = False
    return entry


def variants_together(items: Iterable[Item]) -> Iterator[Item]:
    """The items of which several rows are variants as one, with what the first says.

    One is available if a variant is, and has the stock of all.
    """
    for _, group in groupby(items, key=lambda item: item.entry["item_id"]):
        first, *others = group
        entry = first.entry
        for other in others:
            stock = entry.get("stock", 0) + other.entry.get("stock", 0)
            available = entry.get("available", True) or other.entry.get("available", True)
            is_said = "available" in entry or "available" in other.entry
            entry = {**other.entry, **entry}
            entry |= {"stock": stock} if "stock" in entry else {}
            entry |= {"available": available} if is_said else {}
        yield Item(first.line, entry)


def _number(number: float) -> int | float:
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _first_text(value: Any) -> str:
    """A text, the first one where a feed has several."""
    return str(value[0] if isinstance(value, list) and value else value)


def _plain(value: Any) -> Any:
    """A value that JSON has, from one of CSV, JSON or Parquet."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    return value


def message_id(identity: tuple[str, ...], repetition: int) -> str:
    """The id of an event, equal whenever and wherever its file is read. `repetition` counts events
    of equal identity from 1.
    """
    if identity[0] == "event" and len(identity) == 2:
        return identity[1]
    text = "\0".join((*identity, str(repetition)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Repetitions:
    """Numbers of events of equal identity, in the order of time."""

    def __init__(self) -> None:
        self._now: int | None = None
        self._alike: Counter[tuple[str, ...]] = Counter()

    def number(self, identity: tuple[str, ...], timestamp: int, unique: bool) -> int:
        """The event's number among its equals, from 1; always 1 for a unique identity."""
        if unique:
            return 1
        if timestamp != self._now:
            self._now = timestamp
            self._alike.clear()
        self._alike[identity] += 1
        return self._alike[identity]


HEADER: Final = ("file", "line", "code", "field", "cell", "reason", "row")
_MOST_CHARACTERS: Final = 10_000
_MOST_OF_CELL: Final = 500


class RejectedRows:
    """Writes rejected rows as CSV; the file is made with the first, so that none means none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, name: str, rejection: Rejection) -> None:
        """Write a row of the file of this name."""
        if self._file is None:
            # Spreadsheets know UTF-8 by its mark.
            self._file = self.path.open("w", encoding="utf-8-sig", newline="", errors="replace")
            csv.writer(self._file).writerow(HEADER)
        cells = {key: _printable(value) for key, value in rejection.cells.items()}
        row = orjson.dumps(cells, default=str).decode()[:_MOST_CHARACTERS]
        cell = str(cells.get(rejection.field) or "")[:_MOST_OF_CELL]
        line, code, field, reason, _ = rejection
        csv.writer(self._file).writerow((name, line, code, field, cell, reason, row))
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def _printable(value: object) -> object:
    """A text without bytes that its encoding does not have: JSON has none."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value
