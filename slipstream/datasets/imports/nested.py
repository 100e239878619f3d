"""Nested rows: objects read by dotted paths, and an order's list of lines as a row for each line.

Shopify's and WooCommerce's orders have `customer.id` and a list `line_items`. Segment's calls stay
as they are, since ingestion reads their products itself.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from slipstream.contracts.spellings import ITEM_ID_NAMES, PRICE_NAMES, token
from slipstream.datasets.imports.sources import Row

_MOST_DEPTH: Final = 8
_MOST_CELLS: Final = 1_000
_MOST_LINES: Final = 10_000
_CALLS: Final = frozenset({"track", "page", "screen", "identify", "alias", "group"})
_ID_NAMES: Final = frozenset(ITEM_ID_NAMES.split())
# What a list has besides ids if it has an order's lines, or a product's variants.
_AMOUNT_NAMES: Final = frozenset((*PRICE_NAMES.split(), "quantity", "qty", "menge", "anzahl"))


def is_call(cells: Mapping[str, Any]) -> bool:
    """Whether a row is a call of Segment's API."""
    kind = cells.get("type")
    named = isinstance(kind, str) and kind in _CALLS
    return named and ("userId" in cells or "anonymousId" in cells)


def find_lines(rows: Iterable[Row]) -> str:
    """The path of the list that most rows have and that has lines with ids and amounts; else ""."""
    seen = Counter[str]()
    for row in rows:
        if not is_call(row.cells):
            for path, value in _paths(row.cells):
                seen[path] += _likeness(value)
    (path, likeness), *_ = (*seen.most_common(1), ("", 0))
    return path if likeness else ""


def _likeness(value: Any) -> int:
    """How much a list is like the lines of an order: 2 with ids of items, 1 with some id."""
    first = value[0] if isinstance(value, list) and value else None
    names = {token(name).replace("_", "") for name in first} if isinstance(first, dict) else set()
    if not names & _AMOUNT_NAMES:
        return 0
    return 2 if names & _ID_NAMES else int("id" in names)


def taken_apart(row: Row, lines: str) -> Iterator[Row]:
    """The row with a cell for each path of its objects; of a list of lines, a row for each line.
    Objects stay in the row, next to their parts. `lines` is the path of the list, "" for none.
    """
    if not any(isinstance(value, dict | list) for value in row.cells.values()) or is_call(
        row.cells
    ):
        yield row
        return
    cells = {**row.cells, **dict(islice(_paths(row.cells), _MOST_CELLS))}
    listed = cells.pop(lines, None) if lines else None
    if not isinstance(listed, list) or not listed:
        yield row._replace(cells=cells)
        return
    for line in listed[:_MOST_LINES]:
        parts = dict(islice(_paths(line), _MOST_CELLS)) if isinstance(line, dict) else {}
        own = {f"{lines}.{path}": value for path, value in parts.items()}
        yield row._replace(cells={**cells, **own})
    if len(listed) > _MOST_LINES:
        yield row._replace(fault=f"has over {_MOST_LINES:,} lines in {lines}")


def _paths(value: Mapping[str, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """The paths of all that is no object, with its value."""
    for name, each in value.items():
        if isinstance(each, dict) and each and depth < _MOST_DEPTH:
            yield from _paths(each, f"{before}{name}.", depth + 1)
        else:
            yield f"{before}{name}", each
