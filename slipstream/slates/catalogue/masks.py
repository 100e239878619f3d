"""Masks of conditions over the catalogue's columns."""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.spellings import meant
from slipstream.filters import conditions as kinds
from slipstream.filters.conditions import ITEM_ID, Condition, Order, Own
from slipstream.slates.catalogue.columns import Columns, Vocabulary

Rows = NDArray[np.int32]
ItemMask = NDArray[np.bool_]

_COMPARE: Final[Mapping[Order, Callable[[Any, Any], Any]]] = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.MORE: operator.gt,
    Order.AT_LEAST: operator.ge,
}


class Items(NamedTuple):
    """Items by number, as a filter sees them.

    Attributes:
        rows: The row of each item; -1 for an item without attributes.
        number: Returns the number of an item by its id; None for an item that is not among these.
    """

    columns: Columns
    rows: Rows
    number: Callable[[str], int | None]


# Values of an attribute that are searched, and that a remark names.
_SEARCHED: Final = 1_000
_TOLD: Final = 5
_NOBODY: Final[Mapping[Own, Collection[str]]] = dict.fromkeys(Own, ())


class Filter(NamedTuple):
    """A filter of one request: a condition, and the items that its visitor has to do with."""

    condition: Condition
    own: Mapping[Own, Collection[str]] = _NOBODY


def unknown_attributes(condition: Condition, columns: Columns) -> str:
    """A remark on attributes of a condition that no item has, or had; empty where all are known."""
    names = sorted(name for name in kinds.attributes_of(condition) if name not in columns)
    if not names:
        return ""
    known = (*columns.numbers, *columns.categories, *columns.lists)
    told = (f"{name} (did you mean {_meant(name, known)}?)" for name in names)
    return f"no item has an attribute {', '.join(told).replace(' (did you mean ?)', '')}"


def values_instead(condition: Condition, columns: Columns) -> str:
    """For texts of a condition that no item has, values of the attribute: those that differ in case
    alone come first. Empty where items have all of them.
    """
    told = dict[str, None]()
    for each in _texts_in(condition):
        both = (columns.categories.get(each.attribute), columns.lists.get(each.attribute))
        known = [column.vocabulary for column in both if column is not None]
        texts = (one for one in each.values if isinstance(one, str))
        lacking = {one.casefold() for one in texts if not any(one in of.codes for of in known)}
        # The catalogue's thread may add codes meanwhile, and leaves texts that no item has.
        values = {one for of in known for one in of.texts[:_SEARCHED] if one in of.codes}
        if lacking and values:
            first = sorted(values, key=lambda one: (one.casefold() not in lacking, one))
            more = [", …"] if len(first) > _TOLD else []
            told["".join([f"{each.attribute} has ", ", ".join(first[:_TOLD]), *more])] = None
    return "; ".join(told)


def _texts_in(condition: Condition) -> Iterator[kinds.OneOf]:
    match condition:
        case kinds.OneOf():
            yield condition
        case kinds.Not(inner):
            yield from _texts_in(inner)
        case kinds.All(inner) | kinds.Any(inner):
            for each in inner:
                yield from _texts_in(each)


# Every request with that filter asks.
@lru_cache(256)
def _meant(name: str, known: tuple[str, ...]) -> str:
    return meant(name, known)


def mask(condition: Condition, items: Items, own: Mapping[Own, Collection[str]]) -> ItemMask:
    """Whether the condition holds for each item."""
    columns, rows = items.columns, items.rows
    match condition:
        case kinds.Constant(always):
            return np.full(len(rows), always)
        case kinds.Not(inner):
            return ~mask(inner, items, own)
        case kinds.All(inner):
            return _joined(np.logical_and, inner, items, own)
        case kinds.Any(inner):
            return _joined(np.logical_or, inner, items, own)
        case kinds.Compared(name, order, number):
            holds: ItemMask = _COMPARE[order](_numbers(columns, name, rows), number)
            return holds
        case kinds.Present(name):
            numbers = _numbers(columns, name, rows)
            zero: ItemMask = np.isnan(numbers) | (numbers == 0)
            return _described(columns, name, rows) | ~zero
        case kinds.Missing(name):
            numbers = _numbers(columns, name, rows)
            return ~_described(columns, name, rows) & np.isnan(numbers)
        case kinds.OneOf(name, values) if name == ITEM_ID:
            return _those(items, values)
        case kinds.OneOf(name, values):
            return _one_of(columns, name, values, rows)
        case kinds.SharedWith(name, which) if name == ITEM_ID:
            return _those(items, own[which])
        case kinds.SharedWith(name, which):
            theirs = rows[_numbers_of(items, own[which])]
            return _one_of(columns, name, _values(columns, name, theirs), rows)


def _joined(
    join: np.ufunc,
    conditions: Collection[Condition],
    items: Items,
    own: Mapping[Own, Collection[str]],
) -> ItemMask:
    joined: ItemMask = join.reduce([mask(each, items, own) for each in conditions])
    return joined


def _those(items: Items, ids: Collection[str | float]) -> ItemMask:
    found = np.zeros(len(items.rows), np.bool_)
    found[_numbers_of(items, ids)] = True
    return found


def _numbers_of(items: Items, ids: Collection[str | float]) -> list[int]:
    numbers = (items.number(str(each)) for each in ids)
    return [number for number in numbers if number is not None and number < len(items.rows)]


def _one_of(columns: Columns, name: str, values: Collection[str | float], rows: Rows) -> ItemMask:
    numbers = [value for value in values if not isinstance(value, str)]
    found = np.zeros(len(rows), np.bool_)
    if numbers and name in columns.numbers:
        column = _numbers(columns, name, rows)
        for number in numbers:
            found |= column == number
    texts = [value for value in values if isinstance(value, str)]
    category, several = columns.categories.get(name), columns.lists.get(name)
    # Codes are read before their vocabulary, which the catalogue's thread may add to meanwhile.
    if texts and category is not None:
        codes = category.codes.at(rows)
        found |= _marked(category.vocabulary, texts)[codes]
    if texts and several is not None:
        places, codes = several.entries(rows)
        found[places[_marked(several.vocabulary, texts)[codes]]] = True
    return found


def _marked(vocabulary: Vocabulary, texts: Collection[str]) -> ItemMask:
    """Whether each code stands for one of the texts. The last entry, of code -1, is False."""
    codes = [code for text in texts if (code := vocabulary.codes.get(text)) is not None]
    marked = np.zeros(len(vocabulary.texts) + 1, np.bool_)
    marked[codes] = True
    return marked


def _described(columns: Columns, name: str, rows: Rows) -> ItemMask:
    """Whether a category, or a list with one, is there."""
    found = np.zeros(len(rows), np.bool_)
    if (category := columns.categories.get(name)) is not None:
        found |= category.codes.at(rows) >= 0
    if (several := columns.lists.get(name)) is not None:
        _, begins, ends = several.arrays
        found |= ends.at(rows) > begins.at(rows)
    return found


def _values(columns: Columns, name: str, rows: Rows) -> set[str | float]:
    """All values that these rows have of an attribute."""
    numbers = _numbers(columns, name, rows)
    found: set[str | float] = set(numbers[~np.isnan(numbers)].tolist())
    for column in (columns.categories.get(name), columns.lists.get(name)):
        if column is not None:
            texts = column.vocabulary.texts
            found.update(texts[code] for row in rows.tolist() for code in column.codes_of(row))
    return found


def _numbers(columns: Columns, name: str, rows: Rows) -> NDArray[np.float64]:
    column = columns.numbers.get(name)
    if column is None:
        return np.full(len(rows), np.nan)
    return column.at(rows)
