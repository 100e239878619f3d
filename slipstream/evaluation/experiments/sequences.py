"""Confidence sequences: intervals that hold at all looks together, whenever somebody stops.

A sequence of level `alpha` ever misses the truth with a probability of `alpha` at most. Means have
asymptotic ones (I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 2024), with the boundary of
H. Robbins and D. Siegmund ("Boundary crossing probabilities for the Wiener process and sample
sums", 1970), which begins where the central limit theorem holds. Shares have exact ones, which mix
likelihoods over a prior.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, inf, lgamma, log
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Hits from which a mean has an interval: a mean of fewer is not normal enough.
FEWEST_HITS: Final = 100
_NORMAL: Final = NormalDist()
# Prior visitors of all variants: most faults of an assignment move a few visitors in a hundred.
_PRIOR_VISITORS: Final = 100.0
_STEPS: Final = 60


@lru_cache(64)
def _start(alpha: float) -> float:
    """The boundary's square at its beginning: a Wiener process ever crosses it with `alpha`."""

    def crossing(height: float) -> float:
        return 2 * (1 - _NORMAL.cdf(height) + height * _NORMAL.pdf(height))

    low, high = 0.0, 40.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle) > alpha else (low, middle)
    return high * high


def boundary(hits: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """Half the width of a mean's confidence sequence, in standard errors. `hits`, visitors with a
    value above 0, are a clock. `alpha` is the probability of missing the truth at any time. The
    width has the shape of `hits`; NaN below `FEWEST_HITS`.
    """
    clock = np.asarray(hits, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        height = np.sqrt(_start(alpha) + np.log(clock / FEWEST_HITS))
        return np.where(clock >= FEWEST_HITS, height, np.nan)


class Bounds(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


def _times_log(count: float, share: float) -> float:
    return count * log(share) if share > 0 else (-inf if count else 0.0)


def share_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The logarithm of the evidence that visitors do not divide by these shares.

    M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022: a
    mixture of multinomials over a Dirichlet prior around the shares. If they do divide so, it ever
    exceeds `log(1 / alpha)` with a probability of `alpha` at most. `shares` are above 0 and add up
    to 1.
    """
    prior = [_PRIOR_VISITORS * share for share in shares]
    total, weight = sum(counts), sum(prior)
    mixed = lgamma(weight) - lgamma(weight + total)
    for count, each in zip(counts, prior, strict=True):
        mixed += lgamma(each + count) - lgamma(each)
    return mixed - sum(
        _times_log(count, share) for count, share in zip(counts, shares, strict=True)
    )


def share_p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The p-value of shares that may be looked at at any time: 1 over the evidence, 1 at most."""
    return min(1.0, exp(-max(share_evidence(counts, shares), 0.0)))
