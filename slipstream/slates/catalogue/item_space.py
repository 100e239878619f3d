"""The numbers of items: those of a model's items, then those that only the catalogue knows.

Masks over these numbers go into retrieval. Columns are kept once, by the catalogue's rows; a space
knows the row of each number.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Mask
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.new_items import MOST_NEW_ITEMS, NewItems
from slipstream.slates.catalogue.growing import GrowingArray
from slipstream.slates.catalogue.layers import LayeredIds


class ItemSpace:
    """The item numbers of one model in service.

    An item that the model knows has its place in the bundle as its number. Further ones follow in
    the order in which the catalogue met them, and keep their numbers for as long as the space
    lives. Made while requests run: nothing is parsed, and the catalogue's lock is not needed until
    `catch_up`. `new_items` is None for a model without an index of its items by content.
    """

    def __init__(self, bundle: Bundle, item_ids: LayeredIds) -> None:
        self._bundle, self._item_ids = bundle, item_ids
        self._seen = len(item_ids)
        known = item_ids.rows(bundle.item_ids)
        known[known >= self._seen] = -1  # met meanwhile, and caught up with later
        rest = np.ones(self._seen, np.bool_)
        rest[known[known >= 0]] = False
        rows = np.concatenate((known, np.flatnonzero(rest).astype(np.int32)))
        numbers = np.empty(self._seen, np.int32)
        numbers[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        self._rows = GrowingArray(np.int32, -1, rows)
        self._numbers = GrowingArray(np.int32, -1, numbers)
        self._shown = GrowingArray(np.bool_, True, np.ones(len(rows), np.bool_))
        self.new_items = NewItems(bundle) if bundle.content is not None else None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: str) -> bool:
        return self.number(item_id) is not None

    @property
    def revision(self) -> int:
        """A number that grows with each change of what is known of new items."""
        return self.new_items.revision if self.new_items is not None else 0

    @property
    def waiting(self) -> int:
        """The number of new items that are not compared with known ones yet."""
        return self.new_items.waiting if self.new_items is not None else 0

    @property
    def shown(self) -> Mask:
        """Whether each item may be shown now. Don't write to it."""
        return self._shown.values

    @property
    def rows(self) -> NDArray[np.int32]:
        """The catalogue's row of each item, -1 for an item that the catalogue does not have."""
        return self._rows.values

    def number(self, item_id: str) -> int | None:
        """The item's number; None for an item that neither model nor catalogue knows."""
        number = self._bundle.index.get(item_id)
        if number is not None:
            return number
        row = self._item_ids.row(item_id)
        number = -1 if row is None else self._numbers.get(row)
        return number if number >= 0 else None

    def item_id(self, number: int) -> str:
        """The id of an item."""
        known = self._bundle.item_ids
        return known[number] if number < len(known) else self._item_ids[self._rows.get(number)]

    def by_number(self, by_row: NDArray[Any], missing: Any) -> NDArray[Any]:
        """A mask or a column of the catalogue's rows, in the order of the numbers. An item has
        `missing` where it has no row, or a later one.
        """
        rows = self._rows.values
        padded = np.append(by_row, np.array([missing], by_row.dtype))
        return padded[np.where((rows >= 0) & (rows < len(by_row)), rows, len(by_row))]

    def catch_up(self, shown: Mask) -> None:
        """Take in the rows that came while the space was made, and who may be shown.

        The caller keeps the catalogue from changing meanwhile.
        """
        for row in range(self._seen, len(self._item_ids)):
            self._take(row)
        self._shown = GrowingArray(np.bool_, True, self.by_number(shown, True))
        if self.new_items is not None:
            first = max(len(self._bundle.item_ids), len(self) - MOST_NEW_ITEMS)
            for number in range(first, len(self)):
                self.new_items.wait(number)

    def show(self, row: int, shown: bool) -> None:
        """Set whether the item of a row, perhaps a new one, may be shown."""
        number = self._numbers.get(row)
        self._shown.put(number if number >= 0 else self._take(row), shown)

    def describe(self, row: int) -> None:
        """Note that the item of a row has other attributes."""
        number = self._numbers.get(row)
        if self.new_items is not None and number >= len(self._bundle.item_ids):
            self.new_items.wait(number)

    def compare(self, attributes_of: Callable[[str], Mapping[str, Any]], budget_s: float) -> None:
        """Compare new items with those that the model knows, for `budget_s`.

        `attributes_of` returns the attributes of an item id.
        """
        if self.new_items is not None:
            self.new_items.catch_up(lambda number: attributes_of(self.item_id(number)), budget_s)

    def _take(self, row: int) -> int:
        number = self._bundle.index.get(self._item_ids[row], len(self._rows))
        self._rows.put(number, row)
        self._numbers.put(row, number)
        self._shown.put(number, True)
        return number
