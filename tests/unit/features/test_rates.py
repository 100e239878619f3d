import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.features.rates import CLICK_THROUGH, CONVERSION, smoothed


def test_rate_begins_at_the_priors_mean_and_comes_to_be_the_plain_rate() -> None:
    assert smoothed(0, 0, CLICK_THROUGH) == pytest.approx(0.05)
    assert smoothed(0, 0, CONVERSION) == pytest.approx(0.02)
    assert smoothed(1, 2, CLICK_THROUGH) == pytest.approx(2 / 22)
    assert smoothed(30_000, 100_000, CLICK_THROUGH) == pytest.approx(0.3, rel=1e-3)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_rate_lies_between_0_and_1_even_where_trials_were_not_recorded(
    successes: int, trials: int
) -> None:
    assert 0.0 < smoothed(successes, trials, CONVERSION) < 1.0
