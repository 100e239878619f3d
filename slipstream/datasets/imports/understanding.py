"""Understanding of a file: what its columns are, and how it spells times, numbers and lists.

It rests on the file's first rows. A later cell that does not fit costs its row.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import cached_property
from statistics import median
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from slipstream.datasets.imports import cells
from slipstream.datasets.imports.columns import (
    EVENT_FIELDS,
    Cells,
    clock_column,
    columns_of,
    event_columns,
    is_event_file,
    item_columns,
)
from slipstream.datasets.imports.continuations import continuations
from slipstream.datasets.imports.nested import is_call
from slipstream.datasets.imports.sources import DELIMITER_NAMES, FileForm, Row

SAMPLE_ROWS: Final = 10_000
# Neither `007` nor `1234567890123456` is a number: digits would be lost.
_NUMBER: Final = re.compile(r"[+-]?(0|[1-9]\d{0,14})([.,]\d+)?([eE][+-]?\d{1,3})?")
_AMOUNTS: Final = frozenset({"value", "price", "quantity", "rating", "stock", "sale_price"})
_TEXTS: Final = frozenset({
    "title", "description", "image_url", "url", "brand", "category", "currency", "event_type",
    "event_id", "order_id", "order_line", "session_id", "recommendation_id", "user_id", "item_id",
    "anonymous_id", "timestamp", "expires_at", "available", "position", "item_group_id",
})  # fmt: skip
_LISTS: Final = frozenset({"categories"})
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

Kind = Literal["events", "items"]
Reading = Literal["text", "number", "flag", "list"]


@dataclass(frozen=True)
class Choices:
    """Decisions of whoever imports; what is left open is recognised, or asked about.

    Attributes:
        columns: Fields by column; "" leaves a column out. Each is in one of the files at least.
        types: Types by the file's own names, as `event_types.token` spells these; `skip` leaves
            rows out.
        time_unit: Unit of times that are numbers: s, ms, us or ns.
        time_format: Pattern of `strptime` of all times.
        zone: Name of the zone of times without one.
        decimal: Decimal mark, `.` or `,`.
        texts: Columns that are no numbers, whatever they look like.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    event_type: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""
    delimiter: str = ""
    time_unit: str = ""
    time_format: str = ""
    zone: str = ""
    decimal: str = ""
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Understanding:
    """What a file's cells mean.

    Attributes:
        readings: How cells are read, by field, where that is not told by the field.
        mark: Decimal mark of numbers that may be read in two ways.
        lines: What the columns of an order's lines begin with; "" where rows are no such lines.
        stand_in: Column that may tell visitors apart where there is no customer; "" for none.
    """

    kind: Kind
    fields: Mapping[str, str]
    readings: Mapping[str, Reading]
    time: cells.TimeForm
    mark: str
    notes: tuple[str, ...] = ()
    lines: str = ""
    stand_in: str = ""
    calls: bool = False

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """The column of each field."""
        return {name: column for column, name in self.fields.items()}

    def column_of(self, field_: str) -> str:
        """The column that a field is read from, or the field's name."""
        return self.columns.get(field_, field_)


def understand(
    form: FileForm, sample: Sequence[Row], choices: Choices, kind: Kind | None = None
) -> Understanding:
    """What the cells of a file mean. Without a kind the columns tell it.

    Raises:
        ColumnsError: A column that must be there is not known.
        ValueError: A choice is wrong.
    """
    given = {column: name for column, name in choices.columns.items() if column in form.columns}
    good = [row.cells for row in sample if not row.fault]
    found = {c: [v for row in good if not cells.is_missing(v := row.get(c))] for c in form.columns}
    lines = _lines(form)
    typed = [row for row in good if row.get("type")]
    calls = bool(typed) and sum(map(is_call, typed)) >= cells.MOSTLY * len(typed)
    if calls and "type" in form.columns:
        given = {"type": ""} | given
    if kind is None and form.format == "merchant feed":
        kind = "items"
    elif kind is None:
        kind = "events" if is_event_file(form.columns, given, found, lines) else "items"
    if kind == "items" and "Type" in form.columns and continuations(form.columns):
        given = {"Type": "category"} | given
    if kind == "events":
        clock = _clock(form, good, choices)
        fields = event_columns(form.columns, given | clock, found if good else {}, lines)
    else:
        fields = item_columns(form.columns, given, found if good else {})
    notes = list(_form_notes(form))
    fields, left_out = _kept(fields, given, lines if kind == "events" else "")
    if left_out:
        notes.append(f"left out of orders: {_some(left_out)}; --map COLUMN=NAME keeps one")
    time_form = _time_form(fields, good, choices, notes)
    mark = _decimal_mark(fields, good, form, choices, notes)
    readings = {
        name: _reading(name, values)
        for column, name in fields.items()
        if (values := found[column]) and column not in choices.texts
    }
    stand_in = _stand_in(fields, found)
    return Understanding(
        kind, fields, readings, time_form, mark, tuple(notes), lines, stand_in, calls
    )


def _stand_in(fields: Mapping[str, str], found: Cells) -> str:
    """The column of sessions, else the outermost one of e-mail addresses; "" for neither."""
    sessions = [column for column, name in fields.items() if name == "session_id"]
    open_ = sorted((c for c in found if fields.get(c, c) == c), key=lambda c: c.count("."))
    addresses = columns_of({c: found[c] for c in open_}, cells.is_address)
    return next((column for column in (*sessions, *addresses) if found[column]), "")


def _lines(form: FileForm) -> str:
    """What the names of columns of an order's lines begin with: those of a list, or Shopify's."""
    shopify = "Lineitem "
    return f"{form.lines}." if form.lines else shopify * (f"{shopify}name" in form.columns)


def _kept(
    fields: Mapping[str, str], given: Mapping[str, str], lines: str
) -> tuple[dict[str, str], list[str]]:
    """The fields without objects that were taken apart, and without parts of objects that were not.

    Orders hold names and addresses; of them, only what is known is kept, and the rest is named.
    """
    used = {c.partition(".")[0] for c, name in fields.items() if "." in c and c != name}
    kept, left_out = {}, []
    for column, name in fields.items():
        top, dot, _ = column.partition(".")
        known = column != name or name in EVENT_FIELDS or column in given
        if lines and not known:
            left_out.append(column)
        elif known or (top not in fields if dot else top not in used) or (dot and top in used):
            kept[column] = name
    return kept, left_out


def _some(columns: Sequence[str]) -> str:
    shown = ", ".join(f"`{column}`" for column in columns[:5])
    return f"{shown} and {len(columns) - 5:,} more" if len(columns) > 5 else shown


def _clock(form: FileForm, rows: Sequence[Mapping[str, Any]], choices: Choices) -> dict[str, str]:
    """The column of times of day in a file with a column of days, as a choice; else nothing."""
    column = clock_column(form.columns)
    if column is None or column in choices.columns or choices.time_format:
        return {}
    values = [v for row in rows if not cells.is_missing(v := row.get(column))]
    fitting = sum(map(cells.is_time_of_day, values))
    return {column: "time_of_day"} if values and fitting >= cells.MOSTLY * len(values) else {}


def _form_notes(form: FileForm) -> Iterator[str]:
    if form.encoding in ("cp1252", "latin-1"):
        yield "the text is Latin-1 (Windows-1252), as it is no UTF-8; --encoding names another"
    elif form.encoding.startswith("utf-16"):
        yield "the text is UTF-16"
    if form.format == "merchant feed":
        yield "the file is a product feed"
    if form.lines:
        yield f"each entry of `{form.lines}` is a row"
    if continued := continuations(form.columns):
        yield f"rows with one `{continued.column}` continue the first of them"
    if form.format == "csv" and form.delimiter != ",":
        yield f"cells are separated by {DELIMITER_NAMES.get(form.delimiter, repr(form.delimiter))}"


def _time_form(
    fields: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    choices: Choices,
    notes: list[str],
) -> cells.TimeForm:
    column = next((c for c, name in fields.items() if name in ("timestamp", "expires_at")), None)
    zone: tzinfo = ZoneInfo(choices.zone) if choices.zone else UTC
    values = [v for row in rows if column and not cells.is_missing(v := row.get(column))]
    if column is None or not values or choices.time_format:
        return cells.TimeForm(choices.time_unit or "ms", zone, choices.time_format)
    numbers = [number for value in values if (number := cells.bare_number(value)) is not None]
    unit = choices.time_unit or (cells.time_unit(median(numbers)) if numbers else "ms")
    if numbers:
        of = "" if len(numbers) == len(values) else f" in {len(numbers):,} of {len(values):,} rows"
        notes.append(
            f"`{column}` is in {_UNITS[unit]} since 1970{of}; --time-unit names another unit"
        )
    firsts = {first for value in values if (first := cells.day_is_first(value)) is not None}
    day_first = firsts.pop() if len(firsts) == 1 else None
    if any(map(cells.is_ambiguous_date, values)):
        if day_first is None:
            example = next(filter(cells.is_ambiguous_date, values))
            raise ValueError(
                f"`{column}` has dates such as {example}: is the day first or the month? Say so"
                " with --time-format '%d/%m/%Y' or '%m/%d/%Y', and the time of day as %H:%M:%S"
            )
        notes.append(f"`{column}` has the {'day' if day_first else 'month'} first")
    clock = next((c for c, name in fields.items() if name == "time_of_day"), None)
    if clock:
        notes.append(f"`{clock}` is the time of day of `{column}`")
    if not choices.zone and any(map(_is_without_zone, values)):
        notes.append(f"`{column}` names no zone and is taken as UTC; --timezone names another")
    return cells.TimeForm(unit, zone, "", day_first)


def _is_without_zone(value: Any) -> bool:
    if cells.has_zone(value):
        return False
    try:
        cells.read_time(value, cells.TimeForm(day_first=True))
    except cells.CellError:
        return False
    return True


def _decimal_mark(
    fields: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    form: FileForm,
    choices: Choices,
    notes: list[str],
) -> str:
    """The mark that most numbers have; where none tells, `.`, or `,` in a file of semicolons."""
    seen = {".": 0, ",": 0}
    unsure = ""
    for column, name in fields.items():
        if name not in _AMOUNTS:
            continue
        for row in rows:
            value = row.get(column)
            if not isinstance(value, str):
                continue
            if mark := cells.decimal_mark(value):
                seen[mark] += 1
            elif "," in value or "." in value:
                unsure = unsure or f"`{column}` {value.strip()}"
    told = max(seen, key=lambda mark: seen[mark]) if any(seen.values()) else ""
    mark = choices.decimal or told or ("," if form.delimiter == ";" else ".")
    if unsure and not (choices.decimal or told):
        number = cells.read_amount(unsure.partition("` ")[2], mark).number
        notes.append(f"{unsure} is read as {number:,.3f}; --decimal names the decimal mark")
    elif mark == "," and any(seen.values()):
        notes.append("numbers have a decimal comma")
    return mark


def _reading(name: str, values: Sequence[Any]) -> Reading:
    """How the cells of a field are read, that is, what most of them are."""
    if name in _LISTS:
        return "list"
    if name in _AMOUNTS:
        return "number"
    texts = [value.strip() for value in values if isinstance(value, str)]
    if name in _TEXTS or len(texts) < len(values):
        return "text"  # JSON and Parquet say themselves what is a number
    if all(text.lower() in ("true", "false") for text in texts):
        return "flag"
    if sum(bool(_NUMBER.fullmatch(text)) for text in texts) >= cells.MOSTLY * len(texts):
        return "number"
    if any("|" in text for text in texts) or all(text.startswith("[") for text in texts):
        return "list"
    return "text"
