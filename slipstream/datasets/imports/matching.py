"""Matching of ids: which columns of events and of a catalogue name the same items.

Shops have several ids of an item: events may name a product's handle or its variant's SKU.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from slipstream.datasets.imports import cells
from slipstream.datasets.imports.columns import EVENT_FIELDS, id_columns
from slipstream.datasets.imports.surveys import Export
from slipstream.datasets.imports.understanding import SAMPLE_ROWS

# Least share of the events' items that another column must have in common with the catalogue, and
# by how much it must have more than the column that its name tells.
_LEAST: Final = 0.2
_MORE: Final = 0.05
# Ids by column.
Ids = Mapping[str, Collection[str]]


def matched_ids(
    exports: Sequence[Export], catalogue: Collection[str] = ()
) -> dict[str, dict[str, str]]:
    """The columns of ids with which events and items fit best, by file, as choices.

    Args:
        exports: Files of events and items.
        catalogue: Ids of the items that the stack has, for events without a file of items.
    """
    items = [each for each in exports if each.understanding.kind == "items"]
    ids = {export.file.name: _ids(export) for export in exports}
    found: dict[str, dict[str, str]] = {}
    for export in exports:
        if export.understanding.kind == "items":
            continue
        of_items = [(each.file.name, ids[each.file.name]) for each in items]
        if not items:
            of_items = [("", {"": frozenset(catalogue)})]
        usual = {each.file.name: each.understanding.columns.get("item_id") for each in items}
        shares = {
            (theirs, name, column): _share(events, known)
            for theirs, events in ids[export.file.name].items()
            for name, by_column in of_items
            for column, known in by_column.items()
            if name not in found or column in found[name]
        }
        if not shares:
            continue
        best = max(shares, key=lambda each: shares[each])
        mine = export.understanding.columns.get("item_id")
        named = [
            share
            for (theirs, name, column), share in shares.items()
            if theirs == mine and column == usual.get(name, "")
        ]
        if shares[best] >= max(_LEAST, max(named, default=0.0) + _MORE):
            theirs, name, column = best
            found[export.file.name] = {theirs: "item_id"}
            if name:
                found[name] = {column: "item_id"}
    return found


def _share(events: Collection[str], known: Collection[str]) -> float:
    return sum(each in known for each in events) / len(events) if events else 0.0


def _ids(export: Export) -> Ids:
    """The different cells of each column that may have the ids of items."""
    columns, fields = export.form.columns, export.understanding.fields
    of_events = export.understanding.kind == "events"
    chosen = [c for c, field in export.choices.columns.items() if field == "item_id"]
    named = id_columns(columns, export.understanding.lines, of_events=of_events)
    if of_events and "item_id" not in fields.values():
        named += [c for c, field in fields.items() if field not in EVENT_FIELDS]
    candidates = [c for c in chosen if c in columns] or named
    ids: dict[str, set[str]] = {column: set() for column in candidates}
    for row in islice(export.rows(), SAMPLE_ROWS):
        for column in candidates:
            value = row.cells.get(column)
            if isinstance(value, str | int) and not cells.is_missing(value):
                ids[column].add(str(value).strip())
    return ids
