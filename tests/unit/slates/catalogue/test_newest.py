"""The list of the newest items."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.slates.catalogue.columns import NewestItems


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30), st.integers(1, 10))
def test_the_list_is_the_latest_of_all_that_may_be_shown(
    rows: list[tuple[int, bool]], kept: int
) -> None:
    items = NewestItems(kept)
    ids = [f"item-{row:02}" for row in range(len(rows))]
    for row, (appeared, _) in enumerate(rows):
        items.put(row, appeared)
    shown = np.array([visible for _, visible in rows], np.bool_)
    expected = sorted(
        ((ids[row], float(at)) for row, (at, visible) in enumerate(rows) if visible),
        key=lambda entry: (-entry[1], entry[0]),
    )
    found = items.latest(ids, shown, 1)
    assert [at for _, at in found] == [at for _, at in expected[:kept]]
    assert set(found) <= set(expected)
    if len(expected) <= kept:
        assert found == expected


def test_a_change_shows_once_the_list_is_a_second_old() -> None:
    seconds = [0.0]
    items = NewestItems(clock=lambda: seconds[0])
    shown = np.ones(2, np.bool_)
    items.put(0, 1.0)
    assert items.latest(["a", "b"], shown, 1) == [("a", 1.0)]
    items.put(1, 2.0)
    assert items.latest(["a", "b"], shown, 2) == [("a", 1.0)]
    seconds[0] = 1.0
    assert items.latest(["a", "b"], shown, 2) == [("b", 2.0), ("a", 1.0)]
