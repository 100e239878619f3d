"""Masks hold exactly where a plain evaluation of each item says so, also after changes."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.filters.conditions import Condition, Own, depends_on_visitor
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.masks import Items, mask
from tests.unit.filters.random_conditions import Catalogue, catalogues, conditions, holds, owns


def items_of(before: Catalogue, catalogue: Catalogue, listed: Sequence[str]) -> Items:
    """Items whose attributes were others before; those that are in neither have no row."""
    columns = Columns()
    row_of = {item_id: row for row, item_id in enumerate({**before, **catalogue})}
    for item_id, attributes in before.items():
        columns.put(row_of[item_id], {}, attributes)
    for item_id, row in row_of.items():
        columns.put(row, before.get(item_id, {}), catalogue.get(item_id, {}))
    rows = np.array([row_of.get(item_id, -1) for item_id in listed], np.int32)
    return Items(columns, rows, {item_id: n for n, item_id in enumerate(listed)}.get)


@settings(max_examples=200)
@given(catalogues, catalogues, conditions, owns, st.permutations([f"i{n}" for n in range(8)]))
def test_a_mask_is_what_each_item_says_by_itself(
    before: Catalogue,
    catalogue: Catalogue,
    condition: Condition,
    own: Mapping[Own, Collection[str]],
    listed: Sequence[str],
) -> None:
    items = items_of(before, catalogue, listed)
    expected = [holds(condition, item_id, catalogue, own) for item_id in listed]
    assert mask(condition, items, own).tolist() == expected
    if not depends_on_visitor(condition):
        nobody: dict[Own, list[str]] = {Own.SEEN: [], Own.BOUGHT: []}
        assert mask(condition, items, nobody).tolist() == expected
