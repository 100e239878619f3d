"""Simulated visitors of an experiment: slates that are alike, rare purchases, rare large sums.

A visitor has a taste, the probability of clicking a slate, and all slates of the visitor share it.
Both the past and the purchases follow the taste. Every quantity has a known mean, so that the true
lift is known exactly.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from slipstream.evaluation.experiments.moments import Moments

# Fifty equally likely tastes of a beta distribution: most visitors click hardly ever.
TASTES: Final = np.minimum(beta(0.6, 5.4).ppf((np.arange(50) + 0.5) / 50), 0.6)
# Share of visitors with a past, and mean purchases of a visitor.
KNOWN: Final = 0.4
PURCHASES: Final = 0.02
# Shape of a lognormal basket: a hundredth of the purchases makes an eighth of the revenue.
BASKET: Final = 1.2


class Visitors(NamedTuple):
    """Visitors in the order of their arrival, and the arm of each: 0 is the control."""

    arm: NDArray[np.int64]
    slates: NDArray[np.float64]
    clicks: NDArray[np.float64]
    slates_before: NDArray[np.float64]
    clicks_before: NDArray[np.float64]
    purchases: NDArray[np.float64]
    revenue: NDArray[np.float64]


def visitors(random: np.random.Generator, n: int, lift: float = 0.0) -> Visitors:
    """Draw visitors.

    Args:
        random: Source of randomness.
        n: Their number.
        lift: Relative difference of the variant, in clicks and in purchases.
    """
    arm = (random.random(n) < 0.5).astype(np.int64)
    taste = random.choice(TASTES, n)
    slates = np.ceil(random.lognormal(0.5, 0.9, n))
    before = np.where(random.random(n) < KNOWN, np.ceil(random.lognormal(0.7, 1.0, n)), 0.0)
    effect = 1 + lift * arm
    purchases = random.poisson(PURCHASES * taste / TASTES.mean() * effect).astype(np.float64)
    return Visitors(
        arm,
        slates,
        random.binomial(slates.astype(np.int64), taste * effect).astype(np.float64),
        before,
        random.binomial(before.astype(np.int64), taste).astype(np.float64),
        purchases,
        purchases * random.lognormal(3.0, BASKET, n),
    )


def base_rate(metric: str) -> float:
    """The true value of a metric in the control."""
    means = {
        "click_through": float(TASTES.mean()),
        "purchases": PURCHASES,
        "revenue": PURCHASES * float(np.exp(3.0 + BASKET**2 / 2)),
    }
    return means[metric]


def moments(drawn: Visitors, metric: str, arm: int, *, with_past: bool = False) -> Moments:
    """The moments of an arm after every visitor, as arrays over the visitors.

    `with_past` adds those of the clicks before the experiment.
    """
    own = (drawn.arm == arm).astype(np.float64)
    a, b = {
        "click_through": (drawn.clicks, drawn.slates),
        "purchases": (drawn.purchases, np.ones_like(drawn.slates)),
        "revenue": (drawn.revenue, np.ones_like(drawn.slates)),
    }[metric]
    a, b = a * own, b * own

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum(values)

    sums = (total(own), total((a > 0).astype(np.float64)), total(a), total(b))
    products = (total(a * a), total(a * b), total(b * b))
    if not with_past:
        return Moments(*sums, *products)
    c, d = drawn.clicks_before * own, drawn.slates_before * own
    past = (c, d, c * c, c * d, d * d, a * c, a * d, b * c, b * d)
    return Moments(*sums, *products, *map(total, past))
