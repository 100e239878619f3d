"""Sketches add up, and distances are those of scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from slipstream.evaluation.drift import (
    OTHER,
    Sketch,
    bucket_value,
    buckets,
    chi_square,
    distances,
    jensen_shannon,
    name_bins,
    number_bins,
    population_stability_index,
    share_moved,
    sketch_names,
    sketch_numbers,
)

NUMBERS = st.lists(st.none() | st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0]), max_size=60)
NAMES = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=40)
COUNTS = st.lists(st.integers(0, 500), min_size=4, max_size=4).map(lambda c: np.array(c, float))


def merged(first: Sketch, second: Sketch) -> Sketch:
    """The sketch of two groups of visitors."""
    names = first.counts.keys() | second.counts.keys()
    counts = {name: first.counts.get(name, 0.0) + second.counts.get(name, 0.0) for name in names}
    return Sketch(counts, first.missing + second.missing)


@given(NUMBERS, NUMBERS)
def test_sketches_of_two_groups_add_up_to_that_of_both(
    one: list[float | None], other: list[float | None]
) -> None:
    both = merged(sketch_numbers(one), sketch_numbers(other))
    assert both == sketch_numbers([*one, *other])
    assert both.visitors == len(one) + len(other)


@given(NAMES, NAMES)
def test_sketches_of_names_give_each_visitor_the_same_weight(
    one: list[dict[str, float]], other: list[dict[str, float]]
) -> None:
    both = merged(sketch_names(one, 100), sketch_names(other, 100))
    assert both.visitors == pytest.approx(len(one) + len(other))
    assert both.missing == sum(not sum(each.values()) for each in [*one, *other])
    whole = sketch_names([*one, *other], 100)
    assert both.counts == pytest.approx(dict(whole.counts))


def test_a_sketch_keeps_so_many_names_and_the_sum_of_the_rest() -> None:
    sketch = sketch_names([{name: 1.0} for name in "aaabbcdef"], 3)
    assert sketch.counts == {"a": 3.0, "b": 2.0, OTHER: 4.0}


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_buckets_keep_the_order_and_lose_a_twentieth_at_most(one: float, other: float) -> None:
    low, high = sorted((one, other))
    places = buckets(np.array([low, high]))
    assert places[0] <= places[1]
    assert bucket_value(int(places[1])) == pytest.approx(high, rel=0.05, abs=1e-9)


def test_number_bins_hold_tenths_of_the_reference() -> None:
    random = np.random.default_rng(1)
    reference = sketch_numbers(random.lognormal(3, 1, 5_000).tolist())
    bins = number_bins(reference, sketch_numbers([1e9] * 10))
    assert len(bins.labels) == 10
    assert bins.reference.sum() == 5_000
    assert bins.reference.max() < 900
    assert bins.current.tolist() == [0.0] * 9 + [10.0]


def test_number_bins_keep_a_value_that_most_have_apart() -> None:
    bins = number_bins(sketch_numbers([0.0] * 95 + [1.0, 2, 3, 4, 5]), sketch_numbers([1.0] * 50))
    assert bins.reference[0] == 95
    assert bins.current.tolist()[:1] == [0.0]


def test_name_bins_put_rare_names_together() -> None:
    one = Sketch({"a": 50.0, "b": 4.0, "c": 6.0})
    assert name_bins(one, Sketch({"a": 50.0, "d": 4.0}))[0] == ["a", OTHER]
    assert name_bins(one, Sketch({"a": 40.0, OTHER: 1.0}))[1].tolist() == [50.0, 10.0]


@given(COUNTS, COUNTS)
def test_population_stability_index_is_the_symmetrised_divergence(
    reference: np.ndarray, current: np.ndarray
) -> None:
    one, other = reference + 0.5, current + 0.5
    expected = stats.entropy(one, other) + stats.entropy(other, one)
    assert population_stability_index(reference, current) == pytest.approx(expected, abs=1e-9)


def test_population_stability_index_refuses_other_bins() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        population_stability_index(np.ones(2), np.ones(3))


@given(COUNTS, COUNTS)
def test_chi_square_and_jensen_shannon_are_those_of_scipy(
    reference: np.ndarray, current: np.ndarray
) -> None:
    if not reference.sum() or not current.sum():
        return
    expected = jensenshannon(reference, current, base=2)
    assert jensen_shannon(reference, current) == pytest.approx(expected, abs=1e-6)
    table = np.array([reference, current])[:, reference + current > 0]
    p = stats.chi2_contingency(table, correction=False).pvalue if table.shape[1] > 1 else 1.0
    assert chi_square(reference, current) == pytest.approx(p, abs=1e-9)


def test_distances_of_numbers_are_those_of_the_values_within_a_bucket() -> None:
    random = np.random.default_rng(2)
    one, other = random.gamma(3, 10, 3_000), random.gamma(4, 10, 2_000)
    found = distances(sketch_numbers(one), sketch_numbers(other), numbers=True)
    assert found is not None
    assert found.kolmogorov_smirnov == pytest.approx(stats.ks_2samp(one, other).statistic, abs=0.03)
    expected = stats.wasserstein_distance(one, other) / one.std()
    assert found.wasserstein == pytest.approx(expected, rel=0.05)
    assert found.p < 1e-9


def test_distances_need_a_visitor_in_both() -> None:
    assert distances(sketch_numbers([]), sketch_numbers([1.0]), numbers=True) is None
    assert distances(Sketch({"a": 20.0}), Sketch({}, missing=9), numbers=False) is None


def test_distances_from_a_constant_have_no_wasserstein() -> None:
    found = distances(sketch_numbers([2.0] * 50), sketch_numbers([3.0] * 50), numbers=True)
    assert found is not None
    assert (found.wasserstein, found.kolmogorov_smirnov) == (None, 1.0)


def test_chi_square_of_the_same_visitors_is_small_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    found = 0
    for _ in range(400):
        one, other = (sketch_numbers(random.lognormal(1, 2, 300)) for _ in range(2))
        distance = distances(one, other, numbers=True)
        found += distance is not None and distance.p < 0.05
    assert 8 <= found <= 36  # 20, within 3.7 standard deviations


def test_share_moved_has_size_and_significance() -> None:
    assert share_moved((10, 100), (10, 100)) == (0.0, pytest.approx(1.0))
    psi, p = share_moved((0, 100), (100, 100))
    assert psi > 5
    assert p < 1e-40


@pytest.mark.parametrize(
    ("reference", "current", "psi", "divergence"),
    [
        ([1520, 923, 557], [968, 637, 395], 0.002143, 0.016368),
        ([1492, 888, 620], [816, 585, 599], 0.052171, 0.080581),
    ],
)
def test_distances_of_names_are_those_of_evidently(
    reference: list[float], current: list[float], psi: float, divergence: float
) -> None:
    """By Evidently 0.7.23, which takes the Jensen-Shannon distance to base e."""
    found = distances(
        *(Sketch(dict(zip("abc", counts, strict=True))) for counts in (reference, current)),
        numbers=False,
    )
    assert found is not None
    assert found.psi == pytest.approx(psi, rel=0.005)
    assert found.jensen_shannon * np.sqrt(np.log(2)) == pytest.approx(divergence, rel=0.001)
