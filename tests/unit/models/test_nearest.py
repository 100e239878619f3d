"""The index of item vectors in clusters, compared with all inner products."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.models.clusters import clustered
from slipstream.models.nearest import NAMED, Nearest

_DIM = 32
TASTES = np.random.default_rng(2).normal(size=(30, _DIM)) / np.sqrt(_DIM)


def vectors_of_two_lengths(items: int) -> NDArray[np.float32]:
    """One item of ten has been met in training: its vector is longer, and near to others."""
    random = np.random.default_rng(3)
    vectors = 0.12 * random.normal(size=(items, _DIM))
    met = random.random(items) < 0.1
    vectors[met] += TASTES[random.integers(len(TASTES), size=int(met.sum()))]
    return np.asarray(vectors, np.float32)


def states(number: int) -> NDArray[np.float32]:
    """States between two tastes, with something of their own."""
    random = np.random.default_rng(4)
    mixed = 0.3 * TASTES[random.integers(len(TASTES), size=(number, 2))].sum(axis=1)
    mixed += random.normal(size=mixed.shape) / np.sqrt(_DIM)
    return np.asarray(8 * mixed, np.float32)


def test_a_tenth_of_the_items_holds_98_percent_of_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("EXACT_UP_TO", 500), ("PROBED", 2_000)):
        monkeypatch.setattr(f"slipstream.models.nearest.{name}", value)
    vectors = vectors_of_two_lengths(20_000)
    index = clustered(vectors)
    found = [
        np.isin((vectors @ state).argsort()[-10:], index.best(index.probabilities(state), 10, None))
        for state in states(50)
    ]
    assert np.mean(found) >= 0.98


def test_where_all_clusters_are_compared_only_rounding_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("EXACT_UP_TO", 500), ("PROBED", 10_000)):
        monkeypatch.setattr(f"slipstream.models.nearest.{name}", value)
    vectors = vectors_of_two_lengths(3_000)
    index, exact = clustered(vectors), Nearest.compared_whole(vectors)
    for state in states(20):
        found, wanted = index.probabilities(state), exact.probabilities(state)
        assert len(found.item) == NAMED
        np.testing.assert_allclose(
            found.score / found.score.max(),
            wanted.at(found.item) / wanted.score.max(),
            rtol=0.1,
        )
        best = index.best(found, 10, None)
        least = np.sort(wanted.score)[-10]
        assert (wanted.at(best) > 0.95 * least).all()


def test_index_is_restored_from_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.models.nearest.EXACT_UP_TO", 500)
    index = clustered(vectors_of_two_lengths(1_000))
    restored = Nearest.restore(index.arrays()).arrays()
    for name, array in index.arrays().items():
        np.testing.assert_array_equal(restored[name], array)


def test_vectors_and_states_of_nothing_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.models.nearest.EXACT_UP_TO", 500)
    index = clustered(np.zeros((600, _DIM), np.float32))
    for state in (np.zeros(_DIM, np.float32), states(1)[0]):
        np.testing.assert_allclose(index.probabilities(state).score, 1 / 600, rtol=1e-5)


def test_clusters_find_nearly_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.models.nearest.EXACT_UP_TO", 500)
    monkeypatch.setattr("slipstream.models.nearest.PROBED", 400)
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 8))
    vectors = (
        centres[random.integers(40, size=4_000)] + 0.3 * random.normal(size=(4_000, 8))
    ).astype(np.float32)
    nearest, exact = clustered(vectors), Nearest.compared_whole(vectors)
    hits = []
    for _ in range(50):
        state = (centres[random.integers(40)] + 0.3 * random.normal(size=8)).astype(np.float32) * 2
        some = nearest.probabilities(state)
        assert len(some.item) < 900
        best = set(exact.probabilities(state).score.argsort()[-10:].tolist())
        hits.append(len(best & set(some.item[some.score.argsort()[-10:]].tolist())))
        unseen = np.setdiff1d(np.arange(4_000, dtype=np.int32), some.item)[:3]
        ratio = nearest.probabilities_of(some, unseen) / np.exp(vectors[unseen] @ state)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert np.mean(hits) > 9


@pytest.mark.parametrize("share", [0.01, 0.1, 0.9])
def test_clusters_find_what_a_mask_allows(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    for name, value in (("EXACT_UP_TO", 500), ("PROBED", 400), ("NAMED", 200), ("_ALLOWED", 100)):
        monkeypatch.setattr(f"slipstream.models.nearest.{name}", value)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4_000, 8)).astype(np.float32)
    nearest = clustered(vectors)
    hits = []
    for _ in range(20):
        mask = random.random(4_000) < share
        state = random.normal(size=8).astype(np.float32)
        proposed = nearest.best(nearest.probabilities(state), 20, mask)
        assert mask[proposed].all()
        assert len(set(proposed.tolist())) == 20
        exact = np.where(mask, vectors @ state, -np.inf).argsort()[-20:]
        hits.append(len(set(exact.tolist()) & set(proposed.tolist())))
    assert np.mean(hits) == 20 if share == 0.01 else np.mean(hits) > 14
