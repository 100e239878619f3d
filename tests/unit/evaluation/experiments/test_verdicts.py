"""Verdicts with their reasons, and how much is left to measure."""

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.evaluation.experiments.sequences import Bounds
from slipstream.evaluation.experiments.verdicts import decide, detectable_effect, visitors_left


@pytest.mark.parametrize(
    ("low", "high", "faults", "crossed", "doubtful", "verdict", "words"),
    [
        (0.01, 0.2, (), (), (), "ship", "gains at least 1.0%"),
        (0.01, 0.2, (), (), ("latency seems worse",), "go_on", "1.0%, but latency"),
        (0.01, 0.2, (), ("latency is worse",), (), "stop", "latency is worse"),
        (0.01, 0.2, ("shares",), ("latency is worse",), (), "broken", "shares"),
        (-0.2, -0.01, (), (), (), "stop", "loses at least 1.0%"),
        (-0.2, 0.04, (), (), (), "stop", "4.0% at most: less than 5.0%"),
        (-0.2, 0.2, (), (), (), "go_on", "-20.0% to +20.0%"),
        (-0.2, inf, (), (), (), "go_on", "any gain"),
        (nan, nan, (), (), (), "go_on", "too few hits"),
    ],
)
def test_each_verdict_has_its_reason(
    low: float,
    high: float,
    faults: tuple[str, ...],
    crossed: tuple[str, ...],
    doubtful: tuple[str, ...],
    verdict: str,
    words: str,
) -> None:
    found = decide(Bounds(low, high), 0.05, faults, crossed, doubtful)
    assert found.verdict == verdict and words in found.reason


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 2), st.floats(100, 1e6), st.floats(0.01, 1))
def test_after_the_visitors_that_are_left_the_least_effect_shows(
    error: float, hits: float, least: float
) -> None:
    left = visitors_left(error, hits, 10_000, 0.05, least)
    if left is not None:
        times = (10_000 + left) / 10_000
        shown = detectable_effect(error / times**0.5, hits * times, 0.05)
        assert shown is not None and shown <= least * 1.001
        if left > 100:
            earlier = times * 0.95
            before = detectable_effect(error / earlier**0.5, hits * earlier, 0.05)
            assert before is None or before > least


def test_what_is_unknown_has_no_plan() -> None:
    assert detectable_effect(0.1, 99, 0.05) is None
    assert visitors_left(nan, 100, 1_000, 0.05, 0.1) is None
    assert visitors_left(1e9, 100, 1_000, 0.05, 0.1) is None
    assert visitors_left(0.001, 1_000, 1_000, 0.05, 0.1) == 0
