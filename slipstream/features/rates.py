"""Rates from counts, smoothed: the mean of a Beta posterior.

A rate of few trials says little: one click in two impressions is not a rate of a half. A Beta prior
stands for what is known before the first trial, so the smoothed rate begins at the prior's mean and
is the plain rate once there are many trials.
"""

from typing import Final, NamedTuple


class Prior(NamedTuple):
    """Beta(successes, failures), as if so many had been seen before."""

    successes: float
    failures: float


# 5 % of impressions are clicked, worth 20 impressions.
CLICK_THROUGH: Final = Prior(1.0, 19.0)
# 2 % of visits end in a purchase, worth 50 visits.
CONVERSION: Final = Prior(1.0, 49.0)


def smoothed(successes: float, trials: float, prior: Prior) -> float:
    """The posterior's mean, above 0 and below 1. Where fewer trials than successes were recorded,
    each success is a trial.
    """
    return (prior.successes + successes) / (
        prior.successes + prior.failures + max(trials, successes)
    )
