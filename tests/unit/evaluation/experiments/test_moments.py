"""Estimates against the visitors themselves, and what must hold of their ends."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipstream.evaluation.experiments.moments import Moments, difference, estimate
from slipstream.evaluation.experiments.sequences import boundary

Column = NDArray[Any]


def moments(a: Column, b: Column, c: Column | None = None, d: Column | None = None) -> Moments:
    columns = {"a": a, "b": b} | ({} if c is None or d is None else {"c": c, "d": d})
    sums = {
        field: float(np.prod([columns[part] for part in field], axis=0).sum())
        for field in Moments._fields[2:]
        if set(field) <= columns.keys()
    }
    return Moments.of({"visitors": len(a), "hits": int((a > 0).sum()), **sums})


def shop(seed: int, n: int, lift: float = 0.0) -> tuple[Column, Column, Column, Column]:
    """Clicks and slates of visitors, in the experiment and before."""
    random = np.random.default_rng(seed)
    taste = random.beta(1, 6, n)
    slates, before = random.geometric(0.3, n), random.poisson(6, n)
    clicks = random.binomial(slates, np.minimum(taste * (1 + lift), 1))
    return clicks, slates, random.binomial(before, taste), before


def test_the_interval_of_a_ratio_is_that_of_the_delta_method() -> None:
    clicks, slates, *_ = shop(1, 3_000)
    found = estimate(moments(clicks, slates), 0.05)
    rate = clicks.sum() / slates.sum()
    error = np.std((clicks - rate * slates) / slates.mean(), ddof=1) / 3_000**0.5
    half = float(boundary((clicks > 0).sum(), 0.05)) * error
    assert [float(each) for each in found] == pytest.approx([rate, rate - half, rate + half])


def test_the_past_of_visitors_narrows_a_difference_by_what_it_explains() -> None:
    one, zero = shop(1, 4_000, 0.2), shop(2, 4_000)
    plain = difference(moments(*one[:2]), moments(*zero[:2]), 0.05)
    cuped = difference(moments(*one), moments(*zero), 0.05)
    # The residuals of a regression over visitors have the same variance.
    residuals = []
    for clicks, slates, c, d in (one, zero):
        y = (clicks - clicks.sum() / slates.sum() * slates) / slates.mean()
        both = np.concatenate([one[2], zero[2]]), np.concatenate([one[3], zero[3]])
        x = (c - both[0].sum() / both[1].sum() * d) / both[1].mean()
        residuals.append((y, x - x.mean()))
    slope = sum((y * x).sum() for y, x in residuals) / sum((x * x).sum() for _, x in residuals)
    left = sum(((y - slope * x) ** 2).sum() for y, x in residuals)
    explained = 1 - left / sum((y**2).sum() for y, _ in residuals)
    assert float(cuped.explained) == pytest.approx(explained, rel=1e-6) and explained > 0.1
    assert float(cuped.error) < 0.97 * float(plain.error)
    assert float(cuped.relative.low) < 0.2 < float(cuped.relative.high)


def test_a_variant_without_a_single_hit_is_judged_by_those_of_both() -> None:
    clicks, slates, *_ = shop(1, 5_000)
    few = moments(np.zeros(300), slates[:300])
    found = difference(few, moments(clicks, slates), 0.05)
    assert float(found.relative.value) == -1 and -1 <= float(found.relative.high) < -0.2
    # As many as chance gives are no proof.
    least = difference(moments(np.zeros(20), slates[:20]), moments(clicks, slates), 0.05)
    assert np.isnan(float(least.relative.high))


def test_one_large_purchase_is_no_proof() -> None:
    random = np.random.default_rng(4)
    bought = np.where(random.random(20_000) < 0.02, random.lognormal(3, 1, 20_000), 0)
    one, zero = bought[:10_000].copy(), bought[10_000:]
    one[0] = 50 * bought.sum()
    found = difference(moments(one, np.ones(10_000)), moments(zero, np.ones(10_000)), 0.05)
    assert float(found.relative.value) > 10 and float(found.relative.low) < 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3_000), st.floats(-0.99, 3))
def test_ends_stay_in_what_is_possible_and_around_the_value(seed: int, n: int, lift: float) -> None:
    one, zero = shop(seed, n + 1, lift), shop(seed + 1, n + 7)
    own, control = moments(*one[:2]), moments(*zero[:2])
    value = estimate(own, 0.05, most=1.0)
    gap = difference(own, control, 0.05, most=1.0)
    for found, least, most in ((value, 0, 1), (gap.absolute, -1, 1), (gap.relative, -1, np.inf)):
        middle, low, high = (float(each) for each in found)
        if not np.isnan(low):
            assert least <= low <= middle
        if not np.isnan(high):
            assert middle <= high <= most
    # Both say alike whether there is a difference.
    if not np.isnan(float(gap.relative.high)):
        assert (float(gap.absolute.low) > 0) == (float(gap.relative.low) > 0)
        assert (float(gap.absolute.high) < 0) == (float(gap.relative.high) < 0)


def test_nothing_has_no_value_and_no_ends() -> None:
    nothing = Moments.of({})
    assert np.isnan(np.array([*estimate(nothing, 0.05)], dtype=float)).all()
    gap = difference(nothing, nothing, 0.05)
    assert np.isnan(np.array([*gap.absolute, *gap.relative], dtype=float)).all()


def test_arrays_are_handled_as_numbers_are() -> None:
    pairs = [(moments(*shop(s, 2_000)), moments(*shop(s + 9, 2_000))) for s in (1, 2)]
    own, control = (
        Moments(*map(np.array, zip(*(pair[arm] for pair in pairs), strict=True))) for arm in (0, 1)
    )
    together = difference(own, control, 0.05).relative
    for at, pair in enumerate(pairs):
        assert [each[at] for each in together] == pytest.approx(
            [float(each) for each in difference(*pair, 0.05).relative]
        )
