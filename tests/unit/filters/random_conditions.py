"""Random catalogues and conditions, and the evaluation of a condition for one of the items."""

from collections.abc import Collection, Mapping
from typing import Any

from hypothesis import strategies as st

from slipstream.filters import conditions as kinds
from slipstream.filters import evaluation
from slipstream.filters.conditions import ITEM_ID, Condition, Order, Own
from slipstream.filters.evaluation import Values, values_of

NAMES = ("price", "brand", "colours", "mixed", "absent")
# The last but one is a time, which is compared as its 2 ms.
TEXTS = ("red", "blue", "nike", "1970-01-01T00:00:00.002", "")
Catalogue = Mapping[str, Mapping[str, Any]]


def holds(
    condition: Condition, item_id: str, catalogue: Catalogue, own: Mapping[Own, Collection[str]]
) -> bool:
    """Whether the condition holds for an item, looked at alone."""

    def values(name: str, of: str = item_id) -> Values:
        return {of} if name == ITEM_ID else values_of(catalogue.get(of, {}), name)

    def theirs(name: str, which: Own) -> Values:
        return set[str | float]().union(*(values(name, each) for each in own[which]))

    return evaluation.holds(condition, values, theirs)


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
