"""Previews: the figures of an export in words, and what must be decided before it is sent."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from slipstream.datasets.imports.columns import EVENT_FIELDS, ITEM_FIELDS
from slipstream.datasets.imports.event_types import known_type
from slipstream.datasets.imports.sources import ImportFileError
from slipstream.datasets.imports.surveys import Export, Survey, counted
from slipstream.datasets.imports.understanding import Choices, Kind

# Columns without a field that are shown.
_MOST_KEPT: Final = 12


def refuse_unmatched(exports: Iterable[Export], choices: Choices) -> None:
    """Refuse choices of columns that none of the files has: they were meant for something.

    Raises:
        ImportFileError: There are such columns.
    """
    known = {column for export in exports for column in export.form.columns}
    if unknown := sorted({*choices.columns, *choices.texts} - known):
        raise ImportFileError(
            f"no file has a column {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )


def refuse_without_items(export: Export, survey: Survey) -> None:
    """Refuse a file of events whose items stand in a column that is not known.

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
            f"`{column}` has types that nobody knows: {named}: "
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
