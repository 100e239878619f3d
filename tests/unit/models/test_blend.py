import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from slipstream.models.blend import Blend, fit_blend, initial_blend, log_shares


def _likelihood(
    blend: Blend, scores: np.ndarray, totals: np.ndarray, labels: np.ndarray, size: int
) -> float:
    total = 0.0
    for query in range(len(totals)):
        rows = slice(query * size, (query + 1) * size)
        score = blend.score(blend.features(scores[rows], totals[query]))
        total += float(score[labels[query] - query * size] - logsumexp(score))
    return total


def _problem(queries: int, size: int, seed: int) -> tuple[np.ndarray, ...]:
    """Column 0 tells where the label is, column 1 is noise, column 2 is noise on a linear scale."""
    random = np.random.default_rng(seed)
    scores = random.random((queries * size, 3)).astype(np.float32)
    labels = np.arange(queries) * size + random.integers(0, size, queries)
    scores[labels, 0] += (random.random(queries) < 0.8) * 2
    totals = scores.reshape(queries, size, 3).sum(axis=1)
    return scores, totals, np.arange(queries) * size, labels


def test_fit_gives_the_weight_to_the_retriever_that_knows() -> None:
    scores, totals, begins, labels = _problem(300, 10, 0)
    start = initial_blend([True, True, False])
    blend = fit_blend(scores, totals, begins, labels, start)
    assert blend.weights[0] > 5 * max(blend.weights[1:])
    assert (
        _likelihood(blend, scores, totals, labels, 10)
        > _likelihood(start, scores, totals, labels, 10) + 100
    )
    assert blend.floors[2] < 0


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 20))
def test_fit_never_has_a_negative_exponent_and_never_loses_likelihood(
    queries: int, size: int, seed: int
) -> None:
    scores, totals, begins, labels = _problem(queries, size, seed)
    start = initial_blend([True, True, False])
    blend = fit_blend(scores, totals, begins, labels, start)
    assert (blend.weights > 0).all()
    assert (
        _likelihood(blend, scores, totals, labels, size)
        >= _likelihood(start, scores, totals, labels, size) - 1e-3
    )


def test_fit_without_queries_is_the_start() -> None:
    start = initial_blend([True])
    empty = np.empty(0, np.int64)
    assert (
        fit_blend(np.empty((0, 1), np.float32), np.empty((0, 1), np.float32), empty, empty, start)
        is start
    )


def test_score_is_the_log_of_the_weighted_geometric_mean() -> None:
    blend = Blend(np.array([0.25, 0.75], np.float32), np.array([0.0, 0.0], np.float32))
    scores = np.array([[1, 8], [3, 2]], np.float32)
    found = np.exp(blend.score(blend.features(scores, np.array([4, 10], np.float32))))
    assert found.tolist() == pytest.approx([0.25**0.25 * 0.8**0.75, 0.75**0.25 * 0.2**0.75])


def test_log_shares_leaves_linear_columns_and_stands_silence() -> None:
    scores = np.array([[0, -2], [0, 3]], np.float32)
    found = log_shares(scores, np.array([0, 1], np.float32), np.array([0.01, -1], np.float32))
    np.testing.assert_allclose(found, [[np.log(0.01), -2], [np.log(0.01), 3]], rtol=1e-6)


def test_only_leaves_the_other_exponents_as_they_are() -> None:
    blend = Blend(np.array([1, 2, 3], np.float32), np.full(3, 0.1, np.float32))
    assert blend.only([0, 2]).weights.tolist() == [1, 0, 3]
