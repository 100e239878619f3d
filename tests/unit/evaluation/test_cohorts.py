import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.cohorts import cohorts

QUERIES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=30)


def test_cohorts_of_known_queries() -> None:
    found = cohorts(np.array([1, 2, 3, 100]), np.array([5, 4, 0, 80]))
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "all": [True, True, True, True],
        "new": [True, True, False, False],
        "returning": [False, False, True, True],
        "cold": [False, True, True, False],
    }


@given(QUERIES)
def test_every_visitor_is_new_or_returning_and_no_cohort_is_empty(
    queries: list[tuple[int, int]],
) -> None:
    found = cohorts(*(np.array(column) for column in zip(*queries, strict=True)))
    assert found["all"].all() and len(found["all"]) == len(queries)
    assert all(mask.any() for mask in found.values())
    assert (
        sum(found[name].astype(int) for name in ("new", "returning") if name in found) == 1
    ).all()
