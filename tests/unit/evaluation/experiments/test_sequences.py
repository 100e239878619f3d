"""Boundaries against published figures, and exact sequences against their definitions."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from slipstream.evaluation.experiments.sequences import (
    FEWEST_HITS,
    boundary,
    share_evidence,
    share_p_value,
)


def test_the_boundary_begins_where_hits_suffice_and_widens_with_their_logarithm() -> None:
    # Robbins and Siegmund: 2 * (1 - Phi(a) + a * phi(a)) = .05 at a = 2.7955.
    found = boundary([FEWEST_HITS - 1, FEWEST_HITS, 10 * FEWEST_HITS], 0.05)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([2.7955, (2.7955**2 + log(10)) ** 0.5], abs=1e-4)
    assert boundary(FEWEST_HITS, 0.001) == pytest.approx(4.0331, abs=1e-4)


def test_a_wiener_process_crosses_the_boundary_as_seldom_as_promised() -> None:
    random = np.random.default_rng(3)
    steps = np.arange(FEWEST_HITS, 60 * FEWEST_HITS, 5)
    walks = np.cumsum(random.normal(0, 5**0.5, (1_500, len(steps))), axis=1)
    walks += random.normal(0, FEWEST_HITS**0.5, (1_500, 1))
    crossed = (np.abs(walks) > boundary(steps, 0.05) * np.sqrt(steps)).any(axis=1).mean()
    assert 0.02 < crossed < 0.05


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=2, max_size=4))
def test_the_evidence_on_shares_is_that_of_a_dirichlet_mixture(seen: list[int]) -> None:
    shares = [1 / len(seen)] * len(seen)
    prior, found = np.array(shares) * 100, np.array(seen)
    expected = (
        gammaln(100) - gammaln(100 + found.sum()) + (gammaln(prior + found) - gammaln(prior)).sum()
    )
    expected -= (found * np.log(shares)).sum()
    assert share_evidence(seen, shares) == pytest.approx(expected, abs=1e-6)
    assert share_p_value(seen, shares) == pytest.approx(min(1, exp(-max(expected, 0))), rel=1e-5)


def test_shares_that_are_off_are_noticed_and_those_that_are_not_stay() -> None:
    assert share_p_value([2_750, 2_250], [0.5, 0.5]) < 0.001
    assert share_p_value([2_560, 2_440], [0.5, 0.5]) == 1.0
    assert share_p_value([0, 0], [0.9, 0.1]) == 1.0
    assert share_p_value([9_500, 500], [0.9, 0.1]) < 0.001
