"""A condition over the attributes of one item, or over the context of one request."""

import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from slipstream.contracts.times import parse_iso
from slipstream.filters import conditions as kinds
from slipstream.filters.conditions import Condition, Order, Own

# The values of an attribute: numbers as floats, and texts.
Values = set[str | float]
_COMPARE: Final[Mapping[Order, Callable[[Any, Any], bool]]] = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.MORE: operator.gt,
    Order.AT_LEAST: operator.ge,
}


def number_of(value: Any) -> float | None:
    """The number that a value is compared by: an ISO 8601 time counts in ms, true and false as 1
    and 0. None for all others.
    """
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value[4:5] == "-" and value[:4].isdigit():
        with suppress(ValueError):
            return float(parse_iso(value))
    return None


def values_of(attributes: Mapping[str, Any], name: str) -> Values:
    """The values of an attribute, as docs/filters.md describes them."""
    value = attributes.get(name)
    number = number_of(value)
    if isinstance(value, str):
        return ({value} if value else set()) | (set() if number is None else {number})
    if number is not None:
        return {number}
    return {one for one in value if one} if isinstance(value, list) else set()


def holds(
    condition: Condition,
    values: Callable[[str], Values],
    theirs: Callable[[str, Own], Values],
) -> bool:
    """Whether a condition holds. `values` gives those of an attribute, `theirs` those of the
    visitor's own items.
    """
    match condition:
        case kinds.Constant(always):
            return always
        case kinds.Not(inner):
            return not holds(inner, values, theirs)
        case kinds.All(inner):
            return all(holds(each, values, theirs) for each in inner)
        case kinds.Any(inner):
            return any(holds(each, values, theirs) for each in inner)
        case kinds.Present(name):
            return bool(values(name) - {0.0})
        case kinds.Missing(name):
            return not values(name)
        case kinds.OneOf(name, wanted):
            return bool(values(name) & wanted)
        case kinds.Compared(name, order, number):
            numbers = (value for value in values(name) if isinstance(value, float))
            return any(_COMPARE[order](value, number) for value in numbers)
        case kinds.SharedWith(name, own):
            return bool(values(name) & theirs(name, own))


def holds_in_context(condition: Condition, context: Mapping[str, Any]) -> bool:
    """Whether a condition holds for the fields of a context, which knows no visitor's items."""
    return holds(condition, lambda name: values_of(context, name), lambda _name, _own: set())
