"""Smoothed rates: the mean of a Beta posterior.

A rate of few trials says little: one click in two impressions is not a rate of a half. With a Beta
prior, the smoothed rate begins at the prior's mean and approaches the plain rate with many trials.
"""

from typing import Final, NamedTuple


class Prior(NamedTuple):
    """Beta distribution: the successes and failures assumed before the first trial."""

    successes: float
    failures: float


# 5 % of impressions are clicked, worth 20 impressions.
CLICK_THROUGH: Final = Prior(1.0, 19.0)
# 2 % of visits end in a purchase, worth 50 visits.
CONVERSION: Final = Prior(1.0, 49.0)


def smoothed(successes: float, trials: float, prior: Prior) -> float:
    """The posterior's mean, between 0 and 1. There are at least as many trials as successes."""
    return (prior.successes + successes) / (
        prior.successes + prior.failures + max(trials, successes)
    )
