"""Rows that continue the product or the order above them, as Shopify's CSV files have them.

A product's first row has its title, and those of further variants and images little more than its
handle. An order's first row has the customer, and those of further lines the order's name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipstream.contracts.spellings import token
from slipstream.datasets.imports import cells
from slipstream.datasets.imports.sources import Row

_VARIANT: Final = ("Variant SKU", "Variant Price", "Variant Inventory Qty", "Option1 Value")
# Cells that belong to a row, and are not those of the product or the order above.
_OWN: Final = ("variant", "option", "lineitem", "cost_per_item")
_TRACKER, _POLICY = "Variant Inventory Tracker", "Variant Inventory Policy"


@dataclass(frozen=True)
class Continuations:
    """The rows of a file by the column that names their product or order.

    `of_items` tells products from orders.
    """

    column: str
    of_items: bool

    def completed(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows with what the first row of their product or order says.

        Rows that add no more than an image to a product are left out.
        """
        first: dict[str, Any] = {}
        for row in rows:
            name = row.cells.get(self.column)
            if row.fault or cells.is_missing(name):
                yield row
                continue
            if name != first.get(self.column):
                first = row.cells
            elif self.of_items and all(cells.is_missing(row.cells.get(c)) for c in _VARIANT):
                continue
            yield row._replace(cells=self._whole(row.cells, first))

    def _whole(self, own: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
        whole = {
            column: first.get(column)
            if _is_image(column) or (cells.is_missing(value) and not _is_own(column))
            else value
            for column, value in own.items()
        }
        tracked = not cells.is_missing(own.get(_TRACKER, "yes"))
        if not tracked or str(own.get(_POLICY)).strip().lower() == "continue":
            whole["Variant Inventory Qty"] = None  # It is sold whatever the number says.
        return whole


def continuations(columns: Sequence[str]) -> Continuations | None:
    """How rows of a file with these columns continue others; None where they don't."""
    if "Handle" in columns and "Title" in columns and not {*columns}.isdisjoint(_VARIANT):
        return Continuations("Handle", of_items=True)
    if "Name" in columns and "Lineitem name" in columns:
        return Continuations("Name", of_items=False)
    return None


def _is_own(column: str) -> bool:
    return token(column).startswith(_OWN)


def _is_image(column: str) -> bool:
    return token(column).startswith("image")
