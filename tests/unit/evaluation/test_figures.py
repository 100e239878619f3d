import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.figures import DEPTH, Past, cohorts, figures
from slipstream.evaluation.metrics import UNRANKED

PAST = Past(np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 0, 2], np.int32), 30)


def test_figures_are_those_of_the_queries_of_each_cohort() -> None:
    ranks = np.array([0, 2, 15, UNRANKED])
    shown = np.array(
        [np.arange(DEPTH), np.arange(DEPTH), np.arange(5, 25), np.full(DEPTH, -1)], np.int32
    )
    found = figures(ranks, shown, PAST, cohorts(np.array([1, 9, 9, 1]), np.array([9, 9, 9, 9])))
    assert {name: one.queries for name, one in found.items()} == {
        "all": 4,
        "new": 2,
        "returning": 2,
    }

    everyone = found["all"].values()
    assert everyone["queries"] == 4
    assert everyone["hit_rate@10"] == 0.5
    assert everyone["ndcg@10"] == pytest.approx((1 + 0.5) / 4)
    assert everyone["map@10"] == pytest.approx((1 + 1 / 3) / 4)
    assert everyone["mrr@20"] == pytest.approx((1 + 1 / 3 + 1 / 16) / 4)
    assert (
        everyone["coverage@10"] == 15 / 30
    )  # items 0 to 14: what is below the tenth place counts for nothing
    assert found["new"].values()["ndcg@10"] == 0.5
    assert found["returning"].values()["mrr@20"] == pytest.approx((1 / 3 + 1 / 16) / 2)
    assert all(
        mean.low <= mean.value <= mean.high for one in found.values() for mean in one.means.values()
    )
    assert set(everyone) == {
        "queries",
        "hit_rate@10",
        "ndcg@10",
        "map@10",
        "mrr@20",
        "coverage@10",
        "gini@10",
        "novelty@10",
        "diversity@10",
        "long_tail@10",
    }


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
