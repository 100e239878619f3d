import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from slipstream.models import neighbours
from slipstream.models.base import SparseScores
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, neighbours_kept, strongest
from tests.unit.models.logs import history_of


def _matrix(size: int, density: float, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return ((random.random((size, size)) < density) * random.random((size, size))).astype(
        np.float32
    )


@given(
    st.integers(1, 12),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.integers(0, 99),
    st.lists(st.integers(0, 11), max_size=8),
)
def test_every_layout_scores_as_the_matrix_product(
    size: int, density: float, seed: int, items: list[int]
) -> None:
    matrix = _matrix(size, density, seed)
    weighting = HistoryWeighting(position_exponent=0.7)
    history = history_of(*(item % size for item in items))
    voters, weights = weighting(history)
    expected = weights @ matrix[voters]
    csr = sparse.csr_array(matrix)
    data, indices, indptr = strongest(csr, size)
    for retriever in (
        ItemToItem(data, indices, indptr, weighting),
        ItemToItem.of(csr, weighting),
        ItemToItem.full(matrix, weighting),
    ):
        scored = retriever.score(history)
        assert (np.diff(scored.item) > 0).all()
        np.testing.assert_allclose(
            scored.at(np.arange(size, dtype=np.int32)), expected, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            retriever.score_all([history, history])[1], expected, rtol=1e-5, atol=1e-6
        )


def test_sorting_and_adding_over_the_catalogue_agree() -> None:
    few = sparse.csr_array(([1.0, 2.0, 4.0], ([0, 0, 1], [5, 7, 7])), shape=(500, 500))
    retriever = ItemToItem.of(few, HistoryWeighting())
    scored = retriever.score(history_of(0, 1))
    assert scored.item.tolist() == [5, 7]
    assert scored.score.tolist() == [1.0, 6.0]


def test_nothing_is_said_for_an_empty_history_or_an_item_without_neighbours() -> None:
    few = sparse.csr_array(([1.0], ([0], [1])), shape=(500, 500))
    retriever = ItemToItem.of(few, HistoryWeighting())
    assert len(retriever.score(history_of()).item) == 0
    assert len(retriever.score(history_of(9)).item) == 0


def test_restored_from_its_arrays_it_scores_the_same() -> None:
    weighting = HistoryWeighting(max_events=3, half_life_ms=500.0, distinct=False)
    retriever = ItemToItem.of(sparse.csr_array(_matrix(30, 0.1, 1)), weighting, logarithmic=False)
    restored = ItemToItem.restore(retriever.arrays(), retriever.parameters())
    assert restored.weighting == weighting
    assert not restored.logarithmic
    for before, after in zip(
        retriever.score(history_of(1, 2, 3, 4)), restored.score(history_of(1, 2, 3, 4)), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_weighting_counts_positions_from_the_latest_event() -> None:
    items, weights = HistoryWeighting(position_exponent=1.0)(history_of(7, 8, 9))
    assert items.tolist() == [9, 8, 7]
    assert weights.tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_weighting_halves_with_age() -> None:
    _, weights = HistoryWeighting(half_life_ms=1_000.0)(history_of(7, 8, 9, gap_ms=1_000))
    assert weights.tolist() == pytest.approx([1, 0.5, 0.25])


def test_weighting_counts_a_repeated_item_once_by_its_latest_event() -> None:
    items, weights = HistoryWeighting(position_exponent=1.0)(history_of(7, 8, 7))
    assert items.tolist() == [7, 8]
    assert weights.tolist() == pytest.approx([1, 1 / 2])
    assert HistoryWeighting(distinct=False)(history_of(7, 8, 7))[0].tolist() == [7, 8, 7]


def test_weighting_looks_at_the_latest_events_only() -> None:
    assert HistoryWeighting(max_events=2)(history_of(1, 2, 3))[0].tolist() == [3, 2]


def test_weighting_by_event_can_be_turned_off() -> None:
    history = history_of(1, weight=3.0)
    assert HistoryWeighting()(history)[1].tolist() == [3.0]
    assert HistoryWeighting(by_event=False)(history)[1].tolist() == [1.0]


@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 99), st.integers(1, 99))
def test_strongest_keeps_the_largest_magnitudes_of_each_row(
    size: int, keep: int, seed: int, at_once: int
) -> None:
    matrix = _matrix(size, 0.6, seed) - _matrix(size, 0.3, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_AT_ONCE", at_once)
        data, indices, indptr = strongest(sparse.csr_array(matrix), keep)
    for row in range(size):
        kept = data[indptr[row] : indptr[row + 1]]
        columns = indices[indptr[row] : indptr[row + 1]]
        stored = matrix[row][matrix[row] != 0]
        assert len(kept) == min(keep, len(stored))
        np.testing.assert_allclose(
            np.sort(np.abs(kept)), np.sort(np.abs(stored))[len(stored) - len(kept) :]
        )
        np.testing.assert_allclose(kept, matrix[row, columns])


def test_a_large_catalogue_keeps_fewer_neighbours_but_never_fewer_than_fifty() -> None:
    assert neighbours_kept(1_500) == 1_500
    assert neighbours_kept(10_000) == 400
    assert neighbours_kept(1_000_000) == 50


def test_scored_is_zero_for_what_it_does_not_hold() -> None:
    scored = SparseScores(np.array([2, 5], np.int32), np.array([0.5, -1], np.float32))
    assert scored.at(np.array([0, 2, 3, 5, 9], np.int32)).tolist() == [0, 0.5, 0, -1, 0]
