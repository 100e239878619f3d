"""Small shops with random items and rules, for the tests of arranging."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from slipstream.contracts.placements import PlacementPolicy
from slipstream.slates.arranging.arrangement import Arrangement, arrange
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.arranging.pool import Pool, Visitor
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.masks import Items

Attributes = Mapping[str, Any]
# The attributes, score and tier of each candidate.
Shop = Sequence[tuple[Attributes, float, int]]

# Attributes may be a text, a list or a number, also one and the same.
_BRANDS = st.one_of(st.sampled_from(["a", "b"]), st.lists(st.sampled_from("abc"), max_size=2))
attributes = st.fixed_dictionaries(
    {},
    optional={
        "brand": _BRANDS,
        "colours": st.lists(st.sampled_from(["red", "blue", "green"]), unique=True, max_size=3),
        "seller": st.sampled_from([1, 2, 3.5]),
        "item_group_id": st.sampled_from(["g1", "g2", "g3"]),
    },
)
# Scores and factors are powers of two or sums of few, so that no product is rounded.
scores = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0])
shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])
factors = st.sampled_from([0.25, 0.5, 2.0, 4.0])
filters = st.sampled_from(
    ["", 'brand == "a"', '"red" in colours', "seller == 1", "brand is null", 'item_id == "i2"']
)


def items_of(catalogue: Mapping[str, Attributes], listed: Sequence[str]) -> Items:
    """The listed items of a catalogue; those that it does not have are without attributes."""
    columns, row_of = Columns(), {item_id: row for row, item_id in enumerate(catalogue)}
    for item_id, row in row_of.items():
        columns.put(row, {}, catalogue[item_id])
    rows = np.array([row_of.get(item_id, -1) for item_id in listed], np.int32)
    return Items(columns, rows, {item_id: n for n, item_id in enumerate(listed)}.get)


def pool_of(
    shop: Shop,
    *,
    cold: Sequence[bool] | None = None,
    others: Mapping[str, Attributes] | None = None,
) -> Pool:
    """A pool of items i0, i1 and so on, each with attributes, score and tier."""
    item_ids = [f"i{n}" for n in range(len(shop))]
    catalogue = dict(zip(item_ids, (item for item, _, _ in shop), strict=True))
    others = others or {}
    return Pool(
        item_ids.__getitem__,
        np.array([score for _, score, _ in shop], np.float64),
        np.array([tier for _, _, tier in shop], np.int64),
        items_of({**catalogue, **others}, [*item_ids, *others]),
        None if cold is None else np.array(cold, np.bool_),
    )


def arranged(
    pool: Pool,
    n: int,
    seed: str = "",
    visitor: Visitor | None = None,
    *,
    samples: bool = False,
    **policy: Any,
) -> Arrangement:
    """An arrangement by a policy with these fields."""
    compiled = CompiledPolicy.of(PlacementPolicy.model_validate(policy))
    return arrange(pool, n, compiled, visitor or Visitor(), 0, {}, seed, samples=samples)


shops = st.lists(st.tuples(attributes, scores, st.sampled_from([0, 0, 1])), max_size=12)


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to six rules that apply after retrieval."""
    kinds = st.one_of(
        st.fixed_dictionaries({"action": st.sampled_from(["boost", "bury"]), "factor": factors}),
        st.fixed_dictionaries({"action": st.just("pin"), "position": st.integers(1, 8)}),
        st.fixed_dictionaries(
            {
                "action": st.just("cap"),
                "attribute": st.sampled_from(["brand", "colours", "seller"]),
                "most": st.integers(1, 3),
            }
        ),
    )
    drawn = draw(st.lists(st.tuples(kinds, filters), max_size=6))
    return [{**rule, "filter": text, "name": f"r{n}"} for n, (rule, text) in enumerate(drawn)]
