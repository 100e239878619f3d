"""The values of items' attributes as entries of numbers, as the kernel takes them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.serving.columns import CategoryColumn, Columns, ListColumn
from services.serving.filters.masks import Rows
from slipstream.models.kernels.slate_values import LIMIT_SHIFT

# Codes have 31 bits. Values of lists that are no category, and numbers, come after them.
_OF_LISTS: Final = 1 << 32
_OF_NUMBERS: Final = 2 << 32
# Values of a list that count. Few items have more, and a slate's time is bounded.
_MOST_VALUES: Final = 100


class Entries(NamedTuple):
    """Values of items: the item at `places[e]` has the value `keys[e]`, below 2**36."""

    places: NDArray[np.int64]
    keys: NDArray[np.int64]


NO_ENTRIES: Final = Entries(np.empty(0, np.int64), np.empty(0, np.int64))


def categories(columns: Columns, name: str, rows: Rows, most: int = _MOST_VALUES) -> Entries:
    """The categories that items have of an attribute, those of lists included.

    Args:
        columns: The attributes.
        name: The attribute.
        rows: The items' rows, -1 for an item without attributes.
        most: Of each list the first values up to this number.
    """
    category, several = columns.categories.get(name), columns.lists.get(name)
    found: list[Entries] = []
    if category is not None:
        codes = category.codes.at(rows, -1)
        places = np.flatnonzero(codes >= 0)
        found.append(Entries(places, codes[places].astype(np.int64)))
    if several is not None:
        places, codes = several.entries(rows, most)
        keys = codes.astype(np.int64)
        found.append(Entries(places, keys if category is None else _same(category, several, keys)))
    return _concatenated(found)


def values(columns: Columns, name: str, rows: Rows) -> Entries:
    """The categories and numbers that items have of an attribute. Arguments as above.

    Numbers have keys that compare within one call only.
    """
    column = columns.numbers.get(name)
    if column is None:
        return categories(columns, name, rows)
    numbers = column.at(rows, np.nan)
    places = np.flatnonzero(~np.isnan(numbers))
    keys = np.unique(numbers[places], return_inverse=True)[1] + _OF_NUMBERS
    return _concatenated([categories(columns, name, rows), Entries(places, keys)])


def marked(parts: Sequence[Entries]) -> Entries:
    """The entries of several attributes, or limits, each under its own number."""
    return _concatenated(
        [Entries(part.places, part.keys + (n << LIMIT_SHIFT)) for n, part in enumerate(parts)]
    )


def _same(
    category: CategoryColumn, several: ListColumn, codes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The codes of a list's texts among those of a category of the same name."""
    different, where = np.unique(codes, return_inverse=True)
    texts, of_category = several.vocabulary.texts, category.vocabulary.codes
    same = (of_category.get(texts[code], code + _OF_LISTS) for code in different.tolist())
    return np.fromiter(same, np.int64, len(different))[where]


def _concatenated(parts: Sequence[Entries]) -> Entries:
    if len(parts) == 1:
        return parts[0]
    return Entries(*map(np.concatenate, zip(NO_ENTRIES, *parts, strict=True)))
