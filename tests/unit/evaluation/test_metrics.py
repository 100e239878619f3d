from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.metrics import (
    UNRANKED,
    coverage,
    diversity,
    gini,
    hit_rate,
    long_tail,
    mrr,
    ndcg,
    novelty,
    rank_in,
)

RANKS = st.lists(st.integers(0, 50) | st.just(int(UNRANKED)), min_size=1, max_size=30).map(np.array)
ITEMS = 8
LISTS = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=5, max_size=5, unique=True),
    min_size=1,
    max_size=10,
).map(np.array)
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, ITEMS - 1)), max_size=40)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=1, max_size=12),
    st.data(),
)
def test_a_rank_is_the_place_in_a_stable_order(rows: list[list[int]], data: st.DataObject) -> None:
    scores = np.array(rows, np.float32)
    place = data.draw(st.integers(0, len(rows) - 1))
    orders = np.argsort(-scores, axis=0, kind="stable")
    assert rank_in(scores, place).tolist() == [order.tolist().index(place) for order in orders.T]
    assert rank_in(scores[:, 0], place) == rank_in(scores, place)[0]


def test_metrics_of_known_ranks() -> None:
    ranks = np.array([0, 2, 10, UNRANKED])
    assert hit_rate(ranks, 10).tolist() == [1, 1, 0, 0]
    assert ndcg(ranks, 10).tolist() == pytest.approx([1, 0.5, 0, 0])
    assert mrr(ranks, 10).tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert mrr(ranks, 11).tolist() == pytest.approx([1, 1 / 3, 1 / 11, 0])


@pytest.mark.parametrize("k", [1, 3, 10, 25])
@pytest.mark.parametrize(
    ("metric", "measures"),
    [
        (hit_rate, (ir_measures.Success, ir_measures.R)),
        (ndcg, (ir_measures.nDCG,)),
        (mrr, (ir_measures.RR, ir_measures.AP)),
    ],
)
def test_metrics_are_those_of_ir_measures(
    metric: Callable[[np.ndarray, int], np.ndarray],
    measures: tuple[ir_measures.Measure, ...],
    k: int,
) -> None:
    ranks = np.array([*range(30), int(UNRANKED)])  # each is a query with the relevant item "x"
    relevant = [ir_measures.Qrel(str(query), "x", 1) for query in range(len(ranks))]
    lists = [
        ir_measures.ScoredDoc(str(query), "x" if place == rank else f"i{place}", -place)
        for query, rank in enumerate(ranks)
        for place in range(30)
    ]
    for measure in measures:
        values = {
            int(value.query_id): value.value
            for value in ir_measures.iter_calc([measure @ k], relevant, lists)
        }
        assert metric(ranks, k).tolist() == pytest.approx(
            [values[query] for query in range(len(ranks))]
        )


@given(RANKS, st.integers(1, 60))
def test_metrics_are_between_mrr_and_hit_rate(ranks: np.ndarray, k: int) -> None:
    assert (mrr(ranks, k) <= ndcg(ranks, k) + 1e-12).all()
    assert (ndcg(ranks, k) <= hit_rate(ranks, k)).all()
    assert (mrr(ranks, k) >= 0).all()


@given(RANKS, st.integers(1, 60))
def test_metrics_do_not_fall_with_k(ranks: np.ndarray, k: int) -> None:
    for metric in (hit_rate, ndcg, mrr):
        assert (metric(ranks, k + 1) >= metric(ranks, k)).all()


@given(RANKS, st.integers(1, 60))
def test_mrr_is_average_precision_of_one_relevant_item(ranks: np.ndarray, k: int) -> None:
    def average_precision(rank: int) -> float:
        relevant = np.arange(k) == rank
        precision = np.cumsum(relevant) / np.arange(1, k + 1)
        return float((precision * relevant).sum())

    assert mrr(ranks, k).tolist() == pytest.approx(
        [average_precision(rank) for rank in ranks.tolist()]
    )


def test_coverage_counts_each_item_once_and_no_padding() -> None:
    assert coverage(np.array([[0, 1], [1, -1]]), 4) == 0.5
    assert coverage(np.empty((0, 2), np.int32), 0) == 0


def test_gini_of_known_exposure() -> None:
    assert gini(np.array([[0, 1], [2, 3]]), 4) == 0
    assert gini(np.array([[2, -1], [2, -1]]), 4) == 1
    assert gini(np.array([[0, 1]]), 4) == pytest.approx(
        2 / 3
    )  # two of four: the other half is never shown
    assert (
        gini(np.full((3, 2), -1), 4)
        == gini(np.array([[0]]), 1)
        == gini(np.empty((0, 2), np.int32), 0)
        == 0
    )


@given(LISTS)
def test_gini_is_a_share_and_the_same_for_lists_that_come_twice(shown: np.ndarray) -> None:
    assert 0 <= gini(shown, ITEMS) <= 1
    assert gini(np.vstack((shown, shown)), ITEMS) == pytest.approx(gini(shown, ITEMS))


def test_novelty_is_the_bits_of_what_is_shown() -> None:
    counts = np.array([3, 1, 0, 0])  # with one added to each: shares of 1/2, 1/4, 1/8, 1/8
    assert novelty(np.array([[0, 1], [2, 3], [1, -1], [-1, -1]]), counts).tolist() == pytest.approx(
        [1.5, 3, 2, 0]
    )


@given(LISTS, EVENTS)
def test_novelty_and_long_tail_fall_as_items_grow_popular(
    shown: np.ndarray, events: list[tuple[int, int]]
) -> None:
    counts = np.bincount([item for _, item in events], minlength=ITEMS)
    order = np.argsort(-counts, kind="stable")
    for metric in (novelty, long_tail):
        low, high = metric(np.array([order[:5], order[-5:]]), counts)
        assert (low - 1e-12 <= metric(shown, counts)).all() and (
            metric(shown, counts) <= high + 1e-12
        ).all()


def test_long_tail_is_what_is_not_among_the_items_of_most_events() -> None:
    counts = np.array([1, 8, 0, 1])  # item 1 has four fifths of them
    assert long_tail(np.array([[1, -1], [1, 0], [2, 3], [-1, -1]]), counts).tolist() == [
        0,
        0.5,
        1,
        0,
    ]


def test_diversity_of_items_met_by_the_same_visitors_and_by_others() -> None:
    users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2])
    shown = np.array([[0, 1], [0, 2], [0, 3], [0, -1], [-1, -1]])  # item 3 has no visitors
    assert diversity(shown, users, items, 4).tolist() == pytest.approx([0, 1, 1, 0, 0])


@given(LISTS, EVENTS)
def test_diversity_is_one_minus_the_mean_cosine(
    shown: np.ndarray, events: list[tuple[int, int]]
) -> None:
    users, items = (np.array([event[place] for event in events], np.int32) for place in (0, 1))
    met = [{user for user, item in events if item == place} for place in range(ITEMS)]

    def cosine(one: int, other: int) -> float:
        return len(met[one] & met[other]) / np.sqrt(max(len(met[one]) * len(met[other]), 1))

    expected = [
        1 - np.mean([cosine(one, other) for one in row for other in row if one != other])
        for row in shown.tolist()
    ]
    assert diversity(shown, users, items, ITEMS).tolist() == pytest.approx(expected)


def test_diversity_of_a_sample_of_visitors_is_that_of_all() -> None:
    users = np.repeat(np.arange(90_000), 2)
    items = np.arange(len(users)) % 2 + 2 * (
        users % 2
    )  # half of the visitors meet 0 and 1, the other half 2 and 3
    assert diversity(np.array([[0, 1], [2, 3], [0, 2]]), users, items, 4).tolist() == pytest.approx(
        [0, 0, 1]
    )
