import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from slipstream.evaluation.drift import histogram, population_stability_index, reference_bins

# Some are the same often, as counts are.
VALUES = st.lists(
    st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=80
).map(np.array)
COUNTS = st.lists(st.integers(0, 500), min_size=4, max_size=4).map(np.array)


@given(VALUES, VALUES, st.integers(1, 12))
def test_histogram_counts_every_value_once(
    reference: np.ndarray, current: np.ndarray, bins: int
) -> None:
    edges = reference_bins(reference, bins)
    assert (np.diff(edges) > 0).all()
    counts = histogram(current, edges)
    assert len(counts) == len(edges) - 1 <= max(bins, 4)
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


def test_reference_bins_of_a_constant_are_below_at_and_above_it() -> None:
    edges = reference_bins(np.full(9, 3.0))
    assert histogram(np.array([2.9, 3, 3, 3.1, 9]), edges).tolist() == [1, 2, 2]
    with pytest.raises(ValueError, match="no values"):
        reference_bins(np.empty(0))


@pytest.mark.parametrize(
    ("reference", "recent"),
    [
        pytest.param([0] * 95 + [1, 1, 2, 3, 9], [0] * 50 + [1] * 50, id="mostly the least"),
        pytest.param([0, 1, 2, 3, 4] + [5] * 95, [5] * 50 + [2] * 50, id="mostly the greatest"),
        pytest.param([0, 1, 2] + [5] * 95 + [7, 8], [6] * 100, id="mostly one in the middle"),
        pytest.param([0, 1] * 50, [0] * 20 + [1] * 80, id="two values"),
        pytest.param([5] * 100, [5] * 50 + [6] * 50, id="constant, more of it"),
        pytest.param([5] * 100, [5] * 50 + [4] * 50, id="constant, less of it"),
    ],
)
def test_psi_tells_a_shift_of_a_feature_that_has_few_values(
    reference: list[float], recent: list[float]
) -> None:
    edges = reference_bins(np.array(reference * 10))
    before = histogram(np.array(reference * 10), edges)
    assert population_stability_index(before, histogram(np.array(recent), edges)) > 0.25
    assert population_stability_index(before, histogram(np.array(reference), edges)) < 0.05


def test_psi_of_the_same_rare_events_stays_below_the_warning() -> None:
    random = np.random.default_rng(5)
    reference = random.poisson(0.05, 20_000)
    edges = reference_bins(reference)
    before = histogram(reference, edges)
    for _ in range(200):
        recent = histogram(random.poisson(0.05, 300), edges)
        assert population_stability_index(before, recent) < 0.1


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
