"""The values of items' attributes as numbers, as the kernel takes them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.slates.catalogue.columns import CategoryColumn, Columns, ListColumn
from slipstream.slates.catalogue.masks import Rows

# The key of no value.
NONE: Final = -1
# Codes have 31 bits. Values of lists that are no category as well come after them.
_OF_LISTS: Final = 1 << 32
# Values of a list that count. Few items have more, and a slate's time is bounded.
_MOST_VALUES: Final = 100


class Entries(NamedTuple):
    """Values of items: the item at `places[e]` has the value `keys[e]`, or none if that is `NONE`.

    `ends` divides them into parts. Keys of different parts do not compare.
    """

    places: NDArray[np.int64]
    keys: NDArray[np.int64]
    ends: NDArray[np.int64]


# Places and keys, some for each kind of column that an attribute has.
Part = list[tuple[NDArray[np.int64], NDArray[np.int32] | NDArray[np.int64]]]
NO_ENTRIES: Final = Entries(*[np.empty(0, np.int64)] * 3)


def categories(columns: Columns, name: str, rows: Rows, most: int = _MOST_VALUES) -> Part:
    """The categories that items have of an attribute, those of lists included. Rows are -1 for an
    item without attributes. Of each list the first `most` values count.
    """
    category, several = columns.categories.get(name), columns.lists.get(name)
    found: Part = []
    if category is not None:
        found.append((np.arange(len(rows)), category.codes.at(rows)))
    if several is not None:
        places, codes = several.entries(rows, most)
        found.append((places, codes if category is None else _same(category, several, codes)))
    return found


def values(columns: Columns, name: str, rows: Rows) -> Part:
    """The categories and numbers that items have of an attribute. Arguments as above."""
    found, column = categories(columns, name, rows), columns.numbers.get(name)
    if column is not None:
        numbers = column.at(rows) + 0.0  # -0 is 0
        # The bits of numbers, moved so that 0 is no code; codes are then numbers that no item has.
        keys = np.where(np.isnan(numbers), NONE, numbers.view(np.int64) - 2)
        found.append((np.arange(len(rows)), keys))
    return found


def entries(parts: Sequence[Part]) -> Entries:
    """The values of several attributes or limits, a part for each."""
    pieces = [piece for part in parts for piece in part]
    if not pieces:
        return NO_ENTRIES._replace(ends=np.zeros(len(parts), np.int64))
    lengths = (sum(len(keys) for _, keys in part) for part in parts)
    return Entries(
        np.concatenate([places for places, _ in pieces]),
        np.concatenate([keys for _, keys in pieces], dtype=np.int64),
        np.array(list(accumulate(lengths)), np.int64),
    )


def _same(
    category: CategoryColumn, several: ListColumn, codes: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The codes of a list's texts among those of a category of the same name."""
    different, where = np.unique(codes, return_inverse=True)
    texts, of_category = several.vocabulary.texts, category.vocabulary.codes
    same = (of_category.get(texts[code], code + _OF_LISTS) for code in different.tolist())
    return np.fromiter(same, np.int64, len(different))[where]
