import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.metrics import UNRANKED, coverage, hit_rate, mrr, ndcg

RANKS = st.lists(st.integers(0, 50) | st.just(int(UNRANKED)), min_size=1, max_size=30).map(np.array)


def test_metrics_of_known_ranks() -> None:
    ranks = np.array([0, 2, 10, UNRANKED])
    assert hit_rate(ranks, 10).tolist() == [1, 1, 0, 0]
    assert ndcg(ranks, 10).tolist() == pytest.approx([1, 0.5, 0, 0])
    assert mrr(ranks, 10).tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert mrr(ranks, 11).tolist() == pytest.approx([1, 1 / 3, 1 / 11, 0])


@given(RANKS, st.integers(1, 60))
def test_metrics_are_between_mrr_and_hit_rate(ranks: np.ndarray, k: int) -> None:
    assert (mrr(ranks, k) <= ndcg(ranks, k) + 1e-12).all()
    assert (ndcg(ranks, k) <= hit_rate(ranks, k)).all()
    assert (mrr(ranks, k) >= 0).all()


@given(RANKS, st.integers(1, 60))
def test_metrics_do_not_fall_with_k(ranks: np.ndarray, k: int) -> None:
    for metric in (hit_rate, ndcg, mrr):
        assert (metric(ranks, k + 1) >= metric(ranks, k)).all()


def test_coverage_counts_each_item_once_and_no_padding() -> None:
    assert coverage(np.array([[0, 1], [1, -1]]), 4) == 0.5
    assert coverage(np.empty((0, 2), np.int32), 0) == 0
