import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from slipstream.evaluation.drift import histogram, population_stability_index, reference_bins

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80).map(np.array)
COUNTS = st.lists(st.integers(0, 500), min_size=4, max_size=4).map(np.array)


@given(VALUES, VALUES, st.integers(1, 12))
def test_histogram_counts_every_value_once(
    reference: np.ndarray, current: np.ndarray, bins: int
) -> None:
    edges = reference_bins(reference, bins)
    assert (np.diff(edges) > 0).all()
    counts = histogram(current, edges)
    assert len(counts) == len(edges) - 1 <= bins
    assert counts.sum() == len(current)


@given(VALUES, VALUES)
def test_histogram_is_that_of_numpy_with_open_outermost_bins(
    reference: np.ndarray, current: np.ndarray
) -> None:
    edges = reference_bins(reference)
    counts, _ = np.histogram(current, [-np.inf, *edges[1:-1], np.inf])
    assert histogram(current, edges).tolist() == counts.tolist()


def test_histogram_puts_what_lies_beyond_into_the_outermost_bins() -> None:
    assert histogram(np.array([-9, 0, 1, 1.5, 2, 99]), np.array([0.0, 1.0, 2.0])).tolist() == [2, 4]


def test_histogram_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        histogram(np.array([1.0, np.nan]), np.array([0.0, 1.0]))


def test_reference_bins_hold_equal_shares() -> None:
    values = np.arange(1_000.0)
    assert histogram(values, reference_bins(values)).tolist() == [100] * 10


def test_reference_bins_of_a_constant_are_one_bin_around_it() -> None:
    edges = reference_bins(np.full(9, 3.0))
    assert histogram(np.full(4, 3.0), edges).tolist() == [4]
    with pytest.raises(ValueError, match="no values"):
        reference_bins(np.empty(0))


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_not_negative(first: np.ndarray, second: np.ndarray) -> None:
    index = population_stability_index(first, second)
    assert 0 <= index < np.inf
    assert index == pytest.approx(population_stability_index(second, first))
    assert population_stability_index(first, first) == 0


@given(COUNTS, COUNTS)
def test_psi_is_scipys_divergence_both_ways(first: np.ndarray, second: np.ndarray) -> None:
    expected, actual = first + 0.5, second + 0.5
    assert population_stability_index(first, second) == pytest.approx(
        entropy(actual, expected) + entropy(expected, actual)
    )


def test_psi_tells_a_moved_distribution_from_a_resampled_one() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=5_000)
    edges = reference_bins(reference)
    same, moved = random.normal(size=2_000), random.normal(0.7, 1, size=2_000)
    before = histogram(reference, edges)
    assert population_stability_index(before, histogram(same, edges)) < 0.1
    assert population_stability_index(before, histogram(moved, edges)) > 0.25
    with pytest.raises(ValueError, match="cannot be compared"):
        population_stability_index(before, before[1:])
