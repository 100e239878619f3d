"""Estimates of a metric from the moments of its variants' visitors.

A metric is a sum over visitors divided by another one: clicked slates by slates, or revenue by
visitors. Visitors are assigned, and a visitor's slates are alike. So the variance goes over
visitors: that of a ratio by the delta method (A. Deng, U. Knoblich, J. Lu, "Applying the delta
method in metric analytics", KDD 2018). What visitors did before the experiment explains a part of
it (CUPED; A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the sensitivity of online controlled
experiments by utilizing pre-experiment data", WSDM 2013).

All fields and results are arrays of one shape, or single numbers, which are handled alike.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.experiments.sequences import boundary

Numbers = NDArray[np.float64]
NOTHING: Final = np.float64(0.0)
_NO_SLOPE: Final[Numbers] = np.zeros(())


class Moments(NamedTuple):
    """Sums over a variant's visitors.

    Attributes:
        hits: Those with a numerator above 0.
        a, b: Sums of the metric's numerator and denominator.
        aa, ab, bb: Sums of their products.
        c, d: Sums of the covariate's numerator and denominator, from before the experiment.
        cc, cd, dd, ac, ad, bc, bd: Sums of products with them.
    """

    visitors: Any
    hits: Any
    a: Any
    b: Any
    aa: Any
    ab: Any
    bb: Any
    c: Any = NOTHING
    d: Any = NOTHING
    cc: Any = NOTHING
    cd: Any = NOTHING
    dd: Any = NOTHING
    ac: Any = NOTHING
    ad: Any = NOTHING
    bc: Any = NOTHING
    bd: Any = NOTHING

    @classmethod
    def of(cls, found: Mapping[str, float]) -> "Moments":
        """The moments of these names; those that are absent are 0."""
        return cls(*(np.float64(found.get(name, 0.0)) for name in cls._fields))


class Estimates(NamedTuple):
    """Values with the ends of their confidence sequences; NaN where there is none."""

    value: Numbers
    low: Numbers
    high: Numbers


class Difference(NamedTuple):
    """A variant compared with the control.

    Attributes:
        error: Standard error of the relative difference, for planning.
        hits: Effective hits of both, which the boundary goes by.
        explained: Share of the variance that the covariate explains.
    """

    absolute: Estimates
    relative: Estimates
    error: Numbers
    hits: Numbers
    explained: Numbers


class _Arm(NamedTuple):
    """A variant's estimate, and the variance of one visitor around it."""

    value: Numbers
    variance: Numbers
    visitors: Numbers
    hits: Numbers


def estimate(own: Moments, alpha: float, *, most: float = np.inf) -> Estimates:
    """The metric of one variant, from 0 to `most`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        arm = _arm(own, None, _NO_SLOPE)
        error = np.sqrt(arm.variance / arm.visitors)
        half = boundary(arm.hits, alpha) * np.where(error > 0, error, np.nan)
        return Estimates(
            arm.value, np.maximum(arm.value - half, 0.0), np.minimum(arm.value + half, most)
        )


def difference(own: Moments, control: Moments, alpha: float, *, most: float = np.inf) -> Difference:
    """A variant's metric compared with the control's.

    Where one of the two has fewer hits, or less variance, than both together let expect, those of
    both count. So a variant without any click is judged, too, and one large purchase is no proof.
    `alpha` is the probability of missing the truth at any time; `most` is the metric's greatest
    value.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slope, mean, scale = _covariate(own, control)
        arms = [_arm(each, (mean, scale), slope) for each in (own, control)]
        plain = [_arm(each, None, _NO_SLOPE) for each in (own, control)]
        total = arms[0].visitors + arms[1].visitors
        variance = sum(arm.variance * arm.visitors for arm in arms) / total
        share = (arms[0].hits + arms[1].hits) / total
        v1, v0 = (np.fmax(arm.variance, variance) / arm.visitors for arm in arms)
        h1, h0 = (np.fmax(arm.hits, share * arm.visitors) for arm in arms)
        # As F. E. Satterthwaite's degrees of freedom: the hits of whoever adds most variance.
        hits = (v1 + v0) ** 2 / (v1**2 / h1 + v0**2 / h0)
        bound = boundary(hits, alpha)
        y1, y0 = arms[0].value, arms[1].value
        gap, half = y1 - y0, bound * np.sqrt(v1 + v0)
        absolute = Estimates(gap, np.maximum(gap - half, -most), np.minimum(gap + half, most))
        unexplained = sum(arm.variance * arm.visitors for arm in plain) / total
        return Difference(
            absolute,
            _ratio(y1, y0, v1, v0, bound),
            np.sqrt(v1 + (y1 / y0) ** 2 * v0) / y0,
            hits,
            1 - variance / unexplained,
        )


def _ratio(y1: Numbers, y0: Numbers, v1: Numbers, v0: Numbers, bound: Numbers) -> Estimates:
    """The relative difference, -1 or more, with the ends by E. C. Fieller.

    ("Some problems in interval estimation", JRSS B 1954.) They are all ratios r for which
    y1 - r * y0 may be 0; without upper end where y0 may be 0.
    """
    scale = y0**2 - bound**2 * v0
    middle = y1 * y0
    root = np.sqrt(np.maximum(middle**2 - scale * (y1**2 - bound**2 * v1), 0.0))
    known = scale > 0
    low = np.where(known, (middle - root) / scale - 1, bound * 0 - 1)
    high = np.where(known, (middle + root) / scale - 1, bound * np.inf)
    return Estimates(np.where(y0 > 0, y1 / y0 - 1, np.nan), np.maximum(low, -1.0), high)


def _covariate(own: Moments, control: Moments) -> tuple[Numbers, Numbers, Numbers]:
    """The slope of the metric over the covariate, its ratio, and the mean of its denominator."""
    c, d, visitors = own.c + control.c, own.d + control.d, own.visitors + control.visitors
    mean, scale = c / d, d / visitors
    both, alone = (
        sum(_products(each, mean, scale)[which] for each in (own, control)) for which in (0, 1)
    )
    slope = np.where(alone > 0, both / alone, 0.0)
    return np.where(np.isfinite(slope), slope, 0.0), mean, scale


def _products(it: Moments, mean: Numbers, scale: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Sums of products of the residuals: metric by covariate, covariate squared, its mean."""
    value, length = it.a / it.b, it.b / it.visitors
    centre = (it.c - mean * it.d) / scale / it.visitors
    both = (it.ac - mean * it.ad - value * it.bc + value * mean * it.bd) / (length * scale)
    alone = (it.cc - 2 * mean * it.cd + mean**2 * it.dd) / scale**2 - it.visitors * centre**2
    return both, alone, centre


def _arm(it: Moments, covariate: tuple[Numbers, Numbers] | None, slope: Numbers) -> _Arm:
    value, length = it.a / it.b, it.b / it.visitors
    squares = np.maximum(it.aa - 2 * value * it.ab + value**2 * it.bb, 0.0) / length**2
    if covariate is not None:
        both, alone, centre = _products(it, *covariate)
        used = slope != 0
        squares = np.where(used, squares - 2 * slope * both + slope**2 * alone, squares)
        value = np.where(used, value - slope * centre, value)
    variance = np.maximum(squares, 0.0) / np.maximum(it.visitors - 1, 1)
    return _Arm(value, variance, it.visitors, it.hits)
