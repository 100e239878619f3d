"""Uncertainty of a measured mean: bootstrap intervals over queries.

B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile intervals); T. Sakai,
"Evaluating evaluation metrics based on the bootstrap", SIGIR 2006 (paired comparison of two systems
on the same queries).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
_DRAWS_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(
    values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The mean of `values` (one for each query) and its interval.

    An empty array gives (0, 0, 0).
    """
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    means = _resampled_means(np.asarray(values, np.float64), np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high))


def bootstrap_difference(
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of challenger - champion over the same queries in the same order.

    An improvement is certain when `low` > 0. Raises ValueError for different numbers of queries.
    """
    if len(challenger) != len(champion):
        raise ValueError(f"{len(challenger)} and {len(champion)} queries cannot be paired")
    return bootstrap_mean(
        np.asarray(challenger, np.float64) - np.asarray(champion, np.float64), seed, resamples
    )


def _resampled_means(
    values: NDArray[np.float64], random: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """The means of samples, drawn as counts of each distinct value.

    That equals drawing queries, and is quick when there are few different values.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 1_000:
        return (
            random.multinomial(len(values), counts / len(values), size=resamples)
            @ distinct
            / len(values)
        )
    batch = max(1, _DRAWS_AT_ONCE // len(values))
    return np.concatenate(
        [
            values[
                random.integers(0, len(values), (min(batch, resamples - begin), len(values)))
            ].mean(axis=1)
            for begin in range(0, resamples, batch)
        ]
    )
