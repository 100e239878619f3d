"""The ranker: learns what the blend does not know, stays away where there is nothing to learn,
reads the same after saving.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Scores
from slipstream.models.ranker import Ranker
from slipstream.models.ranker_fit import fit_ranker

QUERIES, CANDIDATES = 700, 12


def questions(informative: bool) -> tuple[Scores, Scores, NDArray[np.int64], NDArray[np.int64]]:
    """The label is likeliest where the first feature times the second is large, which no sum of
    features tells.
    """
    random = np.random.default_rng(0)
    features = random.normal(size=(QUERIES * CANDIDATES, 4)).astype(np.float32)
    truth = 3 * features[:, 0] * features[:, 1] if informative else np.zeros(len(features))
    noisy = (truth + random.gumbel(size=len(truth))).reshape(QUERIES, CANDIDATES)
    begins = np.arange(QUERIES) * CANDIDATES
    return features, np.zeros(len(features), np.float32), begins, begins + noisy.argmax(axis=1)


def test_it_learns_what_no_sum_of_features_tells() -> None:
    features, blended, begins, labels = questions(informative=True)
    ranker = fit_ranker(features, blended, begins, labels, np.arange(QUERIES, dtype=np.int32))
    assert ranker is not None
    corrected = ranker.correct(features).reshape(QUERIES, CANDIDATES)
    assert (corrected.argmax(axis=1) == labels - begins).mean() > 0.5


def test_two_visitors_with_many_questions_are_enough() -> None:
    features, blended, begins, labels = questions(informative=True)
    ranker = fit_ranker(features, blended, begins, labels, np.arange(QUERIES, dtype=np.int32) % 2)
    assert ranker is not None
    corrected = ranker.correct(features).reshape(QUERIES, CANDIDATES)
    assert (corrected.argmax(axis=1) == labels - begins).mean() > 0.5


def test_noise_gives_no_ranker() -> None:
    features, blended, begins, labels = questions(informative=False)
    ranker = fit_ranker(features, blended, begins, labels, np.arange(QUERIES, dtype=np.int32))
    assert ranker is None


def test_few_queries_give_no_ranker() -> None:
    features, blended, begins, labels = questions(informative=True)
    few = 100
    rows = few * CANDIDATES
    assert (
        fit_ranker(
            features[:rows],
            blended[:rows],
            begins[:few],
            labels[:few],
            np.arange(few, dtype=np.int32),
        )
        is None
    )


def test_it_is_what_it_was_after_saving() -> None:
    random = np.random.default_rng(1)
    arrays = [
        random.normal(size=size).astype(np.float32) for size in ((4,), (4,), (4, 32), (32,), (32,))
    ]
    ranker = Ranker(*arrays)
    features = random.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        Ranker.restore(ranker.arrays()).correct(features), ranker.correct(features)
    )
