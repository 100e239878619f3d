"""A plain evaluation of filters, item by item, and random catalogues and conditions."""

import operator
from collections.abc import Collection, Mapping
from typing import Any

from hypothesis import strategies as st

from services.serving.filters import conditions as kinds
from services.serving.filters.conditions import Condition, Order, Own

NAMES = ("price", "brand", "colours", "mixed", "absent")
TEXTS = ("red", "blue", "nike", "")
COMPARE = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.MORE: operator.gt,
    Order.AT_LEAST: operator.ge,
}
Catalogue = Mapping[str, Mapping[str, Any]]


def values_of(item_id: str, attributes: Mapping[str, Any], name: str) -> set[str | float]:
    """The values of one attribute, as docs/filters.md describes them."""
    if name == "item_id":
        return {item_id}
    value = attributes.get(name)
    if isinstance(value, bool | int | float):
        return {float(value)}
    if isinstance(value, str):
        return {value} if value else set()
    return {one for one in value if one} if isinstance(value, list) else set()


def holds(
    condition: Condition, item_id: str, catalogue: Catalogue, own: Mapping[Own, Collection[str]]
) -> bool:
    attributes = catalogue.get(item_id, {})

    def values(name: str) -> set[str | float]:
        return values_of(item_id, attributes, name)

    match condition:
        case kinds.Constant(always):
            return always
        case kinds.Not(inner):
            return not holds(inner, item_id, catalogue, own)
        case kinds.All(inner):
            return all(holds(each, item_id, catalogue, own) for each in inner)
        case kinds.Any(inner):
            return any(holds(each, item_id, catalogue, own) for each in inner)
        case kinds.Present(name):
            return bool(values(name) - {0.0})
        case kinds.Missing(name):
            return not values(name)
        case kinds.OneOf(name, wanted):
            return bool(values(name) & wanted)
        case kinds.Compared(name, order, number):
            numbers = (value for value in values(name) if isinstance(value, float))
            return any(COMPARE[order](value, number) for value in numbers)
        case kinds.SharedWith(name, which):
            theirs = [values_of(each, catalogue.get(each, {}), name) for each in own[which]]
            return bool(values(name) & set().union(*theirs))
    raise AssertionError(condition)


_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from((0.5, 2.5)),
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(TEXTS), max_size=3),
)
attributes = st.dictionaries(st.sampled_from(NAMES[:-1]), _values, max_size=4)
ids = st.sampled_from(tuple(f"i{n}" for n in range(8)))
catalogues = st.dictionaries(ids, attributes, max_size=8)
owns = st.fixed_dictionaries({own: st.lists(ids, max_size=3) for own in Own})

_wanted = st.one_of(
    st.sampled_from(TEXTS[:-1]), st.floats(-3, 3, width=16).filter(lambda x: x == round(x * 2) / 2)
)
_names = st.sampled_from(NAMES)
conditions: st.SearchStrategy[Condition] = st.recursive(
    st.one_of(
        st.builds(kinds.Constant, st.booleans()),
        st.builds(kinds.Present, _names),
        st.builds(kinds.Missing, _names),
        st.builds(kinds.OneOf, _names, st.frozensets(_wanted, max_size=3)),
        st.builds(kinds.OneOf, st.just("item_id"), st.frozensets(ids, max_size=3)),
        st.builds(kinds.Compared, _names, st.sampled_from(Order), st.integers(-3, 3).map(float)),
        st.builds(kinds.SharedWith, st.sampled_from((*NAMES, "item_id")), st.sampled_from(Own)),
    ),
    lambda inner: st.one_of(
        st.builds(kinds.Not, inner),
        st.builds(kinds.All, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(kinds.Any, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


def written(condition: Condition) -> str:
    """The condition as an expression."""
    match condition:
        case kinds.Constant(always):
            return str(always)
        case kinds.Not(inner):
            return f"not ({written(inner)})"
        case kinds.All(inner):
            return " and ".join(f"({written(each)})" for each in inner)
        case kinds.Any(inner):
            return " or ".join(f"({written(each)})" for each in inner)
        case kinds.Present(name):
            return name
        case kinds.Missing(name):
            return f"{name} is null"
        case kinds.OneOf(name, values):
            return f"{name} in {sorted(values, key=str)!r}"
        case kinds.Compared(name, order, number):
            return f"{name} {order} {number}"
        case kinds.SharedWith(name, which):
            return f"{name} in {which}"
    raise AssertionError(condition)
