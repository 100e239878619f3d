"""How sure a measured mean is: bootstrap intervals over queries.

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
    """The mean of `values` (one a query) and its interval. Zero of nothing: an empty array gives
    (0, 0, 0).
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
    """The mean of challenger - champion over the same queries in the same order: an improvement is
    sure when `low` > 0.

    Raises ValueError when the two were not measured on equally many queries.
    """
    if len(challenger) != len(champion):
        raise ValueError(f"{len(challenger)} and {len(champion)} queries cannot be paired")
    return bootstrap_mean(
        np.asarray(challenger, np.float64) - np.asarray(champion, np.float64), seed, resamples
    )


def _resampled_means(
    values: NDArray[np.float64], random: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Drawing how often each distinct value occurs is the same as drawing queries, and quick when
    values are few.
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
