"""Surveys: a file read and converted to its end before anything of it is sent; and their previews.

A preview has the figures of an export in words, and what must be decided before it is sent.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from shlex import quote
from typing import Any, Final

import orjson

from slipstream.contracts.spellings import did_you_mean, token
from slipstream.contracts.vocabulary import PURCHASE, RATE, REMOVE, VIEW
from slipstream.datasets.imports.cells import is_missing
from slipstream.datasets.imports.columns import (
    EVENT_FIELDS,
    ITEM_FIELDS,
    ColumnsError,
    id_columns,
    known_type,
    listed,
)
from slipstream.datasets.imports.continuations import continuations
from slipstream.datasets.imports.conversion import (
    Conversion,
    Event,
    Item,
    Rejection,
    items_of,
    variants_together,
)
from slipstream.datasets.imports.rows import find_form, read_rows
from slipstream.datasets.imports.sources import ExportFile, FileForm, ImportFileError, Row
from slipstream.datasets.imports.understanding import (
    SAMPLE_ROWS,
    Choices,
    Kind,
    Understanding,
    understand,
)

# Different ids that are counted; beyond, a survey says "over".
MOST_IDS: Final = 1_000_000
# Names of types that are shown; more are no types.
_MOST_TYPES: Final = 1_000
_EXAMPLES: Final = 3
_ROWS_BETWEEN_STEPS: Final = 5_000

# Takes the name of a file, and a row of it that was rejected.
Refused = Callable[[str, Rejection], None]


class Ids:
    """Different ids, counted up to `MOST_IDS`."""

    def __init__(self, identifiers: Iterable[str] = ()) -> None:
        self.hashes = set(islice(map(hash, identifiers), MOST_IDS))

    def add(self, identifier: str) -> bool:
        """Count an id. Returns whether it was there before."""
        is_known = hash(identifier) in self.hashes
        if len(self.hashes) < MOST_IDS:
            self.hashes.add(hash(identifier))
        return is_known

    def named(self, noun: str) -> str:
        """The number with its noun."""
        over = "over " if len(self.hashes) >= MOST_IDS else ""
        return over + counted(len(self.hashes), noun)


@dataclass
class Survey:
    """The figures of a file.

    Attributes:
        sendable: Rows that can be sent, if no question is open.
        rejected: Rows that can't be, by code.
        types: Rows by our type; `unknown_types` by the file's own name.
        without_type: Rows that name no type, where none was chosen.
        orders: Rows by the file's own name of their type ("" for none), where that is not known
            and they have an order, a price or a quantity.
        refunds: Purchases with negative values.
        skipped: Rows of types that are left out.
        first, last: Least and greatest event time (ms).
        example: The first item, as it will be stored.
        repeated: Rows of items by id, of the first ids that have several.
    """

    rows: int = 0
    sendable: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: list[Rejection] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    named_types: dict[str, str] = field(default_factory=dict)
    unknown_types: Counter[str] = field(default_factory=Counter)
    without_type: int = 0
    orders: Counter[str] = field(default_factory=Counter)
    has_ratings: bool = False
    refunds: int = 0
    skipped: int = 0
    visitors: Ids = field(default_factory=Ids)
    items: Ids = field(default_factory=Ids)
    first: int | None = None
    last: int | None = None
    example: dict[str, Any] | None = None
    repeated: dict[str, int] = field(default_factory=dict)

    def suggested_type(self, name: str = "") -> str:
        """The type that rows most probably have that name none, or this one."""
        if known_type(name) == REMOVE:  # the status of an order that was cancelled
            return REMOVE
        return PURCHASE if self.orders[name] else RATE if self.has_ratings else VIEW

    def add_event(self, event: Event) -> None:
        """Count an event. Its type may be open."""
        self.sendable += 1
        self.visitors.add(event.visitor)
        properties = event.call.get("properties", {})
        for item in items_of(properties):
            self.items.add(item)
        at = event.timestamp
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.has_ratings = self.has_ratings or "rating" in properties
        name = event.type_name
        is_counted = name in self.orders or len(self.orders) < _MOST_TYPES
        if is_counted and not known_type(name) and _is_of_an_order(properties, name):
            self.orders[name] += 1
        if event.event_type:
            self.types[event.event_type] += 1
            if event.type_name and len(self.named_types) < _MOST_TYPES:
                self.named_types.setdefault(event.type_name, event.event_type)
        elif not event.type_name:
            self.without_type += 1
        elif event.type_name in self.unknown_types or len(self.unknown_types) < _MOST_TYPES:
            self.unknown_types[event.type_name] += 1

    def add_item(self, item: Item) -> None:
        """Count an item, and keep the first as an example."""
        self.sendable += 1
        item_id = item.entry["item_id"]
        if self.items.add(item_id) and (item_id in self.repeated or len(self.repeated) < _EXAMPLES):
            self.repeated[item_id] = self.repeated.get(item_id, 1) + 1
        self.example = self.example or item.entry

    def views_of_orders(self, choices: Choices) -> dict[str, int]:
        """The rows that choices make views although they are of orders, by their type's name."""
        chosen = {token(""): choices.event_type, **choices.types}
        return {name: n for name, n in self.orders.items() if chosen.get(token(name)) == VIEW}

    def add_rejection(self, rejection: Rejection) -> None:
        """Count a row that can't be sent."""
        self.rejected[rejection.code] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(rejection)


def _is_of_an_order(properties: Mapping[str, Any], type_name: str) -> bool:
    """Whether a row has an order, or names no type and has a price or a quantity."""
    has_amount = "price" in properties or "quantity" in properties
    return "order_id" in properties or (has_amount and not type_name)


@dataclass(frozen=True)
class Export:
    """A file, and what its rows mean."""

    file: ExportFile
    form: FileForm
    understanding: Understanding
    choices: Choices

    def entries(
        self, refused: Callable[[Rejection], None], conversion: Conversion | None = None
    ) -> Iterator[Event | Item]:
        """The events or items of the file, in its order. Rows that can't be sent go to `refused`;
        `conversion` keeps counts.
        """
        conversion = conversion or Conversion(self.understanding, self.choices)
        convert = conversion.event if self.understanding.kind == "events" else conversion.item
        kept = _without_rejections(map(convert, self.rows(conversion)), refused)
        continued = continuations(self.form.columns)
        yield from variants_together(kept) if continued and continued.of_items else kept

    def rows(self, conversion: Conversion | None = None) -> Iterator[Row]:
        """The rows of the file, each with what the rows above say of it; `conversion` counts."""
        rows, continued = read_rows(self.file, self.form), continuations(self.form.columns)
        rows = conversion.counted(rows) if conversion else rows
        return continued.completed(rows) if continued else rows

    def survey(
        self, step: Callable[[int], None] = lambda _rows: None, refused: Refused | None = None
    ) -> Survey:
        """The figures of the file. `step` gets the number of rows read so far, `refused` each row
        that can't be sent.
        """
        survey, conversion = Survey(), Conversion(self.understanding, self.choices)

        def reject(rejection: Rejection) -> None:
            survey.add_rejection(rejection)
            if refused is not None:
                refused(self.file.name, rejection)

        for number, entry in enumerate(self.entries(reject, conversion), start=1):
            if isinstance(entry, Event):
                survey.add_event(entry)
            else:
                survey.add_item(entry)
            if number % _ROWS_BETWEEN_STEPS == 0:
                step(number)
        survey.refunds, survey.skipped = conversion.refunds, conversion.skipped
        survey.rows = conversion.rows
        return survey


class OpenQuestionError(ImportFileError):
    """A column that a file must have is not known. `offered` has a field by column, if any fits."""

    def __init__(self, message: str, offered: Mapping[str, str]) -> None:
        super().__init__(message)
        self.offered = offered


def _without_rejections(
    converted: Iterable[Event | Item | Rejection | None], refused: Callable[[Rejection], None]
) -> Iterator[Any]:
    for entry in converted:
        if isinstance(entry, Rejection):
            refused(entry)
        elif entry is not None:
            yield entry


def open_export(file: ExportFile, choices: Choices, kind: Kind | None = None) -> Export:
    """A file with what its first rows tell of it. Without a kind its columns tell it.

    Raises:
        ImportFileError: It can't be read, or its columns are not understood; the text says what
            to give.
    """
    form = find_form(file, choices.encoding, choices.delimiter)
    sample = list(islice(read_rows(file, form), SAMPLE_ROWS))
    try:
        understanding = understand(form, sample, choices, kind)
    except ColumnsError as error:
        raise OpenQuestionError(f"{file.name}: {error}", error.offered) from error
    except ValueError as error:
        raise ImportFileError(f"{file.name}: {error}") from error
    return Export(file, form, understanding, choices)


def counted(number: int, noun: str) -> str:
    """A number with its noun in singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Columns without a field that are shown.
_MOST_KEPT: Final = 12
# Characters of the item that a preview shows.
_MOST_OF_ITEM: Final = 600


def refuse_unmatched(files: Iterable[ExportFile], choices: Choices) -> None:
    """Refuse choices of columns that none of the files has: they were meant for something.

    Raises:
        ImportFileError: There are such columns.
    """
    chosen = {*choices.columns, *choices.texts}
    if not chosen:
        return
    forms = [find_form(file, choices.encoding, choices.delimiter) for file in files]
    known = {column for form in forms for column in form.columns}
    for column in sorted(chosen - known):
        raise ImportFileError(f"no file has a column {column}; {did_you_mean(column, known)}")


def refuse_without_items(export: Export, survey: Survey) -> None:
    """Refuse a file of events if its column of items is unknown.

    Raises:
        ImportFileError: No row has an item, and some must have one.
    """
    known = "item_id" in export.understanding.fields.values()
    if not known and survey.rejected["missing_item"]:
        raise ImportFileError(
            f"{export.file.name}: no column is known as item_id; name it with --map"
            f" COLUMN=item_id (columns: {listed(export.form.columns)})"
        )


def questions(export: Export, survey: Survey) -> list[str]:
    """What must be decided before the file can be sent, each with the option that decides it."""
    asked = []
    has_column = "event_type" in export.understanding.fields.values()
    column = export.understanding.column_of("event_type")
    if survey.without_type:
        rows = f"`{column}` is empty in {counted(survey.without_type, 'row')}"
        asked.append(
            f"{rows if has_column else '`event_type` is missing'}: "
            f"--event-type {survey.suggested_type()}?"
        )
    if survey.unknown_types:
        named = ", ".join(
            f"{name!r} ({count:,})" for name, count in survey.unknown_types.most_common(10)
        )
        first = survey.unknown_types.most_common(1)[0][0]
        column = column if has_column else export.understanding.column_of("status")
        asked.append(
            f"`{column}` has unknown types: {named}: "
            f"--type '{first}={survey.suggested_type(first)}', or another of ours, a name of your"
            " own, or skip?"
        )
    asked += refused_views(survey, export.choices)
    for theirs, ours in offered(export, survey).items():
        rows = counted(survey.rejected["missing_user"], "row")
        asked.append(
            f"`{export.understanding.column_of('user_id')}` is empty in {rows}:"
            f" --map {quote(f'{theirs}={ours}')}?"
        )
    return asked


@dataclass(frozen=True)
class ForeignIds:
    """Items that events name and the catalogue lacks; `column` has ids that fit, if there is one.

    Shops have several ids of an item, such as Shopify's `Handle` and `Variant SKU`.
    """

    missing: int
    of: int
    column: str

    def __str__(self) -> str:
        return f"{self.missing:,} of the {self.of:,} items of the events have no entry"


def foreign_ids(
    surveyed: Sequence[tuple[Export, Survey]], catalogue: Iterable[str] = ()
) -> ForeignIds | None:
    """Ids that name nothing, where most of the events' do; None where most are known. `catalogue`
    has the items of the stack, for events without a file of items.
    """
    events, items = set[int](), Ids(catalogue).hashes
    for export, survey in surveyed:
        (events if export.understanding.kind == "events" else items).update(survey.items.hashes)
    if not events or not items or _mostly(events, items):
        return None
    for export, _ in surveyed:
        understanding = export.understanding
        if understanding.columns.get("item_id") in export.choices.columns:
            continue
        of_events = understanding.kind == "events"
        names = id_columns(export.form.columns, understanding.lines, of_events=of_events)
        for column in names:
            values = (row.cells.get(column) for row in export.rows())
            others = Ids(str(value).strip() for value in values if not is_missing(value)).hashes
            if others and _mostly(*(others, items) if of_events else (events, others)):
                return ForeignIds(len(events - items), len(events), column)
    return ForeignIds(len(events - items), len(events), "")


def _mostly(named: set[int], known: set[int]) -> bool:
    """Whether at least half of the ids are known."""
    return 2 * len(named & known) >= len(named)


def refused_views(survey: Survey, choices: Choices) -> list[str]:
    """Why rows are not taken for views although somebody said so."""
    return [
        f"{f'--type {name}=view' if name else '--event-type view'} makes views of"
        f" {counted(count, 'row')} with an order, a price or a quantity: name another type; if they"
        " are views, leave these columns out with --map COLUMN="
        for name, count in survey.views_of_orders(choices).items()
    ]


def offered(export: Export, survey: Survey) -> dict[str, str]:
    """The column that may tell visitors apart where the customer is empty, with its field."""
    stand_in, fields = export.understanding.stand_in, export.understanding.fields
    is_open = stand_in and stand_in not in export.choices.columns
    if not (is_open and survey.rejected["missing_user"]) or "anonymous_id" in fields.values():
        return {}
    return {stand_in: "anonymous_id"}


def describe(export: Export, survey: Survey) -> list[str]:
    """Lines for people: the figures of a file, what was understood, and what can't be sent."""
    understanding = export.understanding
    named = [
        f"`{column}` as {stored}"
        for column, field_ in understanding.fields.items()
        if column != (stored := "categories" if field_ == "category" else field_)
    ]
    lines = [_figures(understanding.kind, survey)]
    if named:
        lines.append(f"columns: {', '.join(named)}")
    known = EVENT_FIELDS if understanding.kind == "events" else ITEM_FIELDS
    if kept := [f"`{column}`" for column in understanding.fields.values() if column not in known]:
        more = f" and {len(kept) - _MOST_KEPT} more" if len(kept) > _MOST_KEPT else ""
        lines.append(f"kept under their own names: {', '.join(kept[:_MOST_KEPT])}{more}")
    lines += [*understanding.notes, *_type_lines(survey)]
    if survey.refunds:
        purchases = counted(survey.refunds, "purchase")
        lines.append(f"{purchases} with a negative value: read as refunds (remove)")
    if survey.example:
        text = orjson.dumps(survey.example, default=str).decode()
        lines.append(f"first item: {text[:_MOST_OF_ITEM]}{'…' * (len(text) > _MOST_OF_ITEM)}")
    lines += [
        f"{item_id} occurs {'twice' if rows == 2 else f'{rows:,} times'}; its rows make one item,"
        " and later values count"
        for item_id, rows in survey.repeated.items()
    ]
    if survey.skipped:
        lines.append(f"{counted(survey.skipped, 'row')} left out by type")
    return [*lines, *_rejection_lines(survey)]


def _figures(kind: Kind, survey: Survey) -> str:
    if kind == "items":
        return f"{counted(survey.rows, 'row')}: {survey.items.named('item')}"
    if survey.first is None or survey.last is None:
        return f"{counted(survey.rows, 'row')}: no event"
    days = " to ".join(
        datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
        for at in dict.fromkeys((survey.first, survey.last))
    )
    return (
        f"{counted(survey.rows, 'row')}: {survey.visitors.named('visitor')},"
        f" {survey.items.named('item')}, {days}"
    )


def _type_lines(survey: Survey) -> Iterator[str]:
    if survey.types:
        yield "types: " + ", ".join(f"{name} {n:,}" for name, n in survey.types.most_common())
    renamed = [
        f"{name!r} as {event_type}"
        for name, event_type in survey.named_types.items()
        if name != event_type and event_type == known_type(name)
    ]
    if renamed:
        yield f"read {', '.join(renamed[:20])}"


def _rejection_lines(survey: Survey) -> Iterator[str]:
    if not survey.rejected:
        return
    yield f"{counted(survey.rejected.total(), 'row')} can't be sent:"
    for line, _, column, reason, _ in survey.examples:
        yield f"  line {line}: {' '.join(filter(None, (column, reason)))}"
    if survey.rejected.total() > len(survey.examples):
        yield f"  and {survey.rejected.total() - len(survey.examples):,} more"
