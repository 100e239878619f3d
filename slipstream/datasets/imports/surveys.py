"""Surveys: a file read and converted to its end before anything of it is sent; and their previews.

A preview has the figures of an export in words, and what must be decided before it is sent.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from slipstream.contracts.spellings import did_you_mean
from slipstream.contracts.vocabulary import PURCHASE, RATE, VIEW
from slipstream.datasets.imports.columns import EVENT_FIELDS, ITEM_FIELDS, ColumnsError, known_type
from slipstream.datasets.imports.conversion import Conversion, Event, Item, Rejection
from slipstream.datasets.imports.rows import find_form, read_rows
from slipstream.datasets.imports.sources import ExportFile, FileForm, ImportFileError
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

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def add(self, identifier: str) -> None:
        if len(self._hashes) < MOST_IDS:
            self._hashes.add(hash(identifier))

    def named(self, noun: str) -> str:
        """The number with its noun."""
        over = "over " if len(self._hashes) >= MOST_IDS else ""
        return over + counted(len(self._hashes), noun)


@dataclass
class Survey:
    """The figures of a file.

    Attributes:
        rows: Rows of the file.
        sendable: Rows that can be sent, if no question is open.
        rejected: Rows that can't be, by code.
        examples: The first rejections.
        types: Rows by our type; `unknown_types` by the file's own name.
        without_type: Rows that name no type, where none was chosen.
        refunds: Purchases with negative values.
        skipped: Rows of types that are left out.
        first, last: Least and greatest event time (ms).
    """

    rows: int = 0
    sendable: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: list[Rejection] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    named_types: dict[str, str] = field(default_factory=dict)
    unknown_types: Counter[str] = field(default_factory=Counter)
    without_type: int = 0
    has_orders: bool = False
    has_ratings: bool = False
    refunds: int = 0
    skipped: int = 0
    visitors: Ids = field(default_factory=Ids)
    items: Ids = field(default_factory=Ids)
    first: int | None = None
    last: int | None = None

    @property
    def suggested_type(self) -> str:
        """The type that rows without one most probably have."""
        return RATE if self.has_ratings else PURCHASE if self.has_orders else VIEW

    def add_event(self, event: Event) -> None:
        """Count an event. Its type may be open."""
        self.sendable += 1
        self.visitors.add(event.visitor)
        properties = event.call["properties"]
        for item in (properties.get("item_id"), *properties.get("products", ())):
            if item is not None:
                self.items.add(item)
        at = event.timestamp
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.has_ratings = self.has_ratings or "rating" in properties
        self.has_orders = self.has_orders or "order_id" in properties or "quantity" in properties
        if event.event_type:
            self.types[event.event_type] += 1
            if event.type_name and len(self.named_types) < _MOST_TYPES:
                self.named_types.setdefault(event.type_name, event.event_type)
        elif not event.type_name:
            self.without_type += 1
        elif event.type_name in self.unknown_types or len(self.unknown_types) < _MOST_TYPES:
            self.unknown_types[event.type_name] += 1

    def add_rejection(self, rejection: Rejection) -> None:
        """Count a row that can't be sent."""
        self.rejected[rejection.code] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(rejection)


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
        """The events or items of the file, in its order.

        Args:
            refused: Called with each row that can't be sent.
            conversion: Converts the rows, and keeps counts.
        """
        conversion = conversion or Conversion(self.understanding, self.choices)
        convert = conversion.event if self.understanding.kind == "events" else conversion.item
        for row in read_rows(self.file, self.form):
            entry = convert(row)
            if isinstance(entry, Rejection):
                refused(entry)
            elif entry is not None:
                yield entry

    def survey(
        self, step: Callable[[int], None] = lambda _rows: None, refused: Refused | None = None
    ) -> Survey:
        """The figures of the file.

        Args:
            step: Called with the number of rows read so far.
            refused: Called with each row that can't be sent.
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
                survey.sendable += 1
                survey.items.add(entry.entry["item_id"])
            if number % _ROWS_BETWEEN_STEPS == 0:
                step(number)
        survey.refunds, survey.skipped = conversion.refunds, conversion.skipped
        survey.rows = survey.sendable + survey.skipped + survey.rejected.total()
        return survey


def open_export(file: ExportFile, choices: Choices, kind: Kind | None = None) -> Export:
    """A file with what its first rows tell of it.

    Args:
        file: The file.
        choices: What somebody decided.
        kind: Whether it has events or items; None where its columns shall tell.

    Raises:
        ImportFileError: It can't be read, or its columns are not understood; the text says what
            to give.
    """
    form = find_form(file, choices.encoding, choices.delimiter)
    sample = list(islice(read_rows(file, form), SAMPLE_ROWS))
    try:
        understanding = understand(form, sample, choices, kind)
    except (ColumnsError, ValueError) as error:
        raise ImportFileError(f"{file.name}: {error}") from error
    return Export(file, form, understanding, choices)


def counted(number: int, noun: str) -> str:
    """A number with its noun in singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Columns without a field that are shown.
_MOST_KEPT: Final = 12


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
            f"{export.file.name}: no column is known as item_id: say which with --map"
            f" THEIRS=item_id; there are {', '.join(export.form.columns)}"
        )


def questions(export: Export, survey: Survey) -> list[str]:
    """What must be decided before the file can be sent, each with the option that decides it."""
    asked = []
    column = export.understanding.column_of("event_type")
    if survey.without_type:
        has_column = "event_type" in export.understanding.fields.values()
        rows = f"`{column}` is empty in {counted(survey.without_type, 'row')}"
        asked.append(
            f"{rows if has_column else '`event_type` is missing'}: "
            f"--event-type {survey.suggested_type}?"
        )
    if survey.unknown_types:
        named = ", ".join(
            f"{name!r} ({count:,})" for name, count in survey.unknown_types.most_common(10)
        )
        first = survey.unknown_types.most_common(1)[0][0]
        asked.append(
            f"`{column}` has unknown types: {named}: "
            f"--type '{first}=view', or another of ours, a name of your own, or skip?"
        )
    return asked


def describe(export: Export, survey: Survey) -> list[str]:
    """Lines for people: the figures of a file, what was understood, and what can't be sent."""
    understanding = export.understanding
    named = [
        f"`{column}` as {field_}"
        for column, field_ in understanding.fields.items()
        if column != field_
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
