"""The gain of each part: known orders of known lists, and a ranker of one feature alone."""

import numpy as np
import pytest

from slipstream.models.blend import Blend
from slipstream.models.ranker import Ranker
from slipstream.recommender.ranking import Lists, ablation, importance

SECOND = 1 / np.log2(3)


def test_ties_go_to_the_item_that_comes_first_and_lost_queries_count() -> None:
    lists = Lists(np.array([0, 3]), np.array([1, 3]), queries=4)
    assert lists.ndcg(np.array([0, 1, 0, 1, 1], np.float32)) == pytest.approx(2 / 4)
    assert lists.ndcg(np.array([1, 1, 1, 0, 1], np.float32)) == pytest.approx(2 * SECOND / 4)


def test_what_is_beyond_the_tenth_place_counts_nothing() -> None:
    assert Lists(np.array([0]), np.array([10]), queries=1).ndcg(np.zeros(11, np.float32)) == 0


def test_every_second_query_takes_its_candidates_along() -> None:
    lists = Lists(np.array([0, 3, 4]), np.array([1, 3, 6]), queries=5)
    part, rows = lists.every(2, 7)
    assert rows.tolist() == [0, 1, 2, 4, 5, 6]
    assert (part.begins.tolist(), part.labels.tolist(), part.queries) == ([0, 3], [1, 5], 2)
    whole, rows = lists.every(1, 7)
    assert (whole.begins.tolist(), whole.labels.tolist(), rows.tolist()) == (
        [0, 3, 4],
        [1, 3, 6],
        list(range(7)),
    )


def test_each_retriever_alone_and_the_blend_without_each() -> None:
    """The first knows the answer, the second the opposite, the third, without weight, nothing."""
    lists = Lists(np.array([0, 2]), np.array([0, 3]), queries=2)
    scores = np.array([[2, 1, 0], [1, 2, 0], [1, 2, 0], [2, 1, 0]], np.float32)
    blend = Blend(np.array([1.0, 0.5], np.float32), np.array([-1, -1], np.float32))
    result = ablation(lists, scores, scores[:, :2], blend, ["right", "wrong", "mute"], [0, 1])
    assert result.blend == pytest.approx(1)
    assert result.alone == pytest.approx({"right": 1, "wrong": SECOND, "mute": (1 + SECOND) / 2})
    assert result.without == pytest.approx({"right": SECOND, "wrong": 1})


def test_only_what_the_ranker_listens_to_is_important() -> None:
    random = np.random.default_rng(0)
    queries, candidates = 200, 30
    begins = np.arange(queries) * candidates
    features = random.normal(size=(queries * candidates, 3)).astype(np.float32)
    features[:, 2] = np.repeat(
        random.normal(size=queries), candidates
    )  # the same for all candidates of a query
    hidden = np.zeros((3, 2), np.float32)
    hidden[0], hidden[2] = (5, -5), (1, 1)
    ranker = Ranker(
        np.zeros(3, np.float32),
        np.ones(3, np.float32),
        hidden,
        np.zeros(2, np.float32),
        np.array([1, -1], np.float32),
    )
    labels = begins + features[:, 0].reshape(queries, candidates).argmax(axis=1)
    before = features.copy()
    lost = importance(
        Lists(begins, labels, queries),
        ranker,
        features,
        np.zeros(len(features), np.float32),
        ["heard", "ignored", "of query"],
        0,
    )
    assert lost["heard"] > 0.5
    assert lost["ignored"] == 0
    assert abs(lost["of query"]) < 0.1
    np.testing.assert_array_equal(features, before)
