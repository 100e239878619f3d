import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slipstream.evaluation.significance import bootstrap_difference, bootstrap_mean


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array), st.integers(0, 3))
def test_interval_holds_the_mean_and_is_repeatable(values: np.ndarray, seed: int) -> None:
    found = bootstrap_mean(values, seed, resamples=200)
    assert found.value == pytest.approx(values.mean())
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == bootstrap_mean(values, seed, resamples=200)


@pytest.mark.parametrize("distinct", [False, True])
def test_interval_is_as_wide_as_theory_says(distinct: bool) -> None:
    random = np.random.default_rng(1)
    values = random.random(4_000) if distinct else (random.random(4_000) < 0.3).astype(float)
    found = bootstrap_mean(values)
    expected = 2 * 1.96 * values.std() / np.sqrt(len(values))
    assert found.high - found.low == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("distinct", [False, True])
def test_interval_is_that_of_scipy(distinct: bool) -> None:
    random = np.random.default_rng(4)
    # Values of a ranking metric: mostly 0, and skewed.
    values = random.random(1_500) ** 8 if distinct else (random.random(300) < 0.1).astype(float)
    own = bootstrap_mean(values, resamples=10_000)
    other = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, batch=500, method="percentile", rng=random
    ).confidence_interval
    # Quantiles of so many resamples are off by about 0.03 standard errors.
    near = 0.12 * values.std() / np.sqrt(len(values))
    assert (own.low, own.high) == pytest.approx((other.low, other.high), abs=near)


def test_paired_difference_is_that_of_scipy() -> None:
    random = np.random.default_rng(5)
    champion = random.random(300)
    challenger = np.clip(champion + random.normal(0.02, 0.2, 300), 0, 1)
    own = bootstrap_difference(challenger, champion, resamples=10_000)
    other = stats.bootstrap(
        (challenger, champion),
        lambda ours, theirs, axis: ours.mean(axis) - theirs.mean(axis),
        paired=True, n_resamples=10_000, batch=500, method="percentile", rng=random,
    ).confidence_interval  # fmt: skip
    near = 0.12 * (challenger - champion).std() / np.sqrt(len(champion))
    assert (own.low, own.high) == pytest.approx((other.low, other.high), abs=near)


def test_interval_covers_the_truth_about_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = bootstrap_mean((random.random(200) < 0.4).astype(float), resamples=300)
        covered += found.low <= 0.4 <= found.high
    assert 0.9 <= covered / 300 <= 0.985


def test_paired_difference_sees_what_unpaired_intervals_cannot() -> None:
    champion = np.random.default_rng(3).random(500)
    challenger = champion + 0.01
    difference = bootstrap_difference(challenger, champion)
    assert difference.low > 0
    assert bootstrap_mean(challenger).low < bootstrap_mean(champion).high


def test_paired_difference_refuses_other_queries() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        bootstrap_difference(np.ones(3), np.ones(4))


def test_mean_of_nothing_is_zero() -> None:
    assert bootstrap_mean(np.empty(0)) == (0.0, 0.0, 0.0)
