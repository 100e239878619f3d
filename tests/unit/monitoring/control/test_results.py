"""Intervals over visitors, votes and the sign test."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.control.results import (
    ClickedSlate,
    HitSums,
    VariantSums,
    interleaved_result,
    sign_test,
    variant_results,
)


def sums(slates: np.ndarray, hits: np.ndarray) -> VariantSums:
    clicked = HitSums(int(hits.sum()), int((hits**2).sum()), int((hits * slates).sum()))
    return VariantSums(len(slates), int(slates.sum()), int((slates**2).sum()), clicked)


def test_intervals_hold_the_truth_as_often_as_they_say_though_visitors_slates_are_alike() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        drawn = {}
        for name, chance in (("a", 0.3), ("b", 0.35)):
            slates = random.integers(1, 20, 300)
            # Each visitor likes the lists, or does not.
            hits = random.binomial(slates, random.beta(chance * 2, (1 - chance) * 2, 300))
            drawn[name] = sums(slates, hits)
        difference = variant_results(["a", "b"], drawn)[1].click_through.difference
        assert difference is not None and difference.low is not None and difference.high is not None
        held += difference.low <= 0.05 <= difference.high
    assert 0.92 < held / 400 < 0.98


def test_there_is_no_interval_of_few_visitors_or_of_no_hits() -> None:
    ones = np.ones(100, int)
    for few in (sums(ones[:29], np.arange(29) % 2), sums(ones, ones * 0), sums(ones, ones)):
        control, other = variant_results(
            ["a", "b"], {"a": sums(ones, np.arange(100) % 2), "b": few}
        )
        assert control.click_through.rate.low is not None
        assert control.click_through.difference is None
        difference = other.click_through.difference
        assert difference is not None and difference.value is not None and difference.low is None
    empty = variant_results(["a", "b"], {})[1]
    assert (empty.visitors, empty.click_through.rate.value) == (0, None)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_exact(wins: int, losses: int) -> None:
    n = wins + losses
    expected = min(1.0, 2 * sum(comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n)
    assert sign_test(wins, losses) == (pytest.approx(expected) if n else None)


def test_the_sign_test_of_many_votes_is_quick_and_finite() -> None:
    assert sign_test(500_000, 500_000) == pytest.approx(1, abs=1e-6)
    assert sign_test(501_000, 499_000) == pytest.approx(0.0456, abs=0.001)


def test_each_slate_and_each_visitor_has_one_vote() -> None:
    teams = {"x": "a", "y": "b", "z": "b"}

    def slate(user_id: str, clicked: str) -> ClickedSlate:
        return ClickedSlate(user_id, teams, frozenset(clicked))

    slates = [slate("ada", each) for each in ("x", "y", "yz", "xy")] + [slate("bo", "x?")]
    result = interleaved_result("a", slates)
    assert (result.slates.wins, result.slates.losses, result.slates.ties) == (2, 2, 1)
    assert (result.visitors.wins, result.visitors.losses, result.visitors.ties) == (1, 1, 0)
    assert result.p_value == 1
