"""Boosts multiply scores by the factors of rules that match; fatigue puts worn-out items last."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.placements import BoostRule
from slipstream.slates.arranging.pool import Match, Pool, Visitor

# Greatest product of several factors, and its inverse the least: products stay finite.
_MOST: Final = 1e12


def buries(matches: Sequence[Match]) -> bool:
    """Whether a rule lowers scores."""
    return any(
        isinstance(each.compiled.rule, BoostRule) and each.compiled.rule.factor < 1
        for each in matches
    )


def boosted(scores: NDArray[np.float64], matches: Sequence[Match]) -> NDArray[np.float64]:
    """The scores times the factors of all boosts that match.

    A score below 0 is divided, so that a factor above 1 raises every score but 0.
    """
    factors = np.ones(len(scores))
    with np.errstate(over="ignore", under="ignore"):
        for (rule, *_), about in matches:
            if isinstance(rule, BoostRule):
                factors *= np.where(about, rule.factor, 1.0)
    factors = np.minimum(np.maximum(factors, 1 / _MOST), _MOST)
    return np.where(scores < 0, scores / factors, scores * factors)


# More than a fallback chain has tiers.
_AFTER_ALL: Final = 1_000


def tiers_by_fatigue(pool: Pool, visitor: Visitor, limit: int) -> NDArray[np.int64]:
    """The candidates' tiers, with tiers of their own at the end for items that are worn out.

    They fill a list that would be short without them, since an empty place is useless. Until then
    they are left out.

    Args:
        pool: The candidates.
        visitor: How often each item was shown without a response.
        limit: Times from which an item is worn out; 0 for never.
    """
    tiers, size = pool.tiers.astype(np.int64), len(pool.scores)
    if not limit or not visitor.impressions or not size:
        return tiers
    shown = (
        pool.items.number(item_id) for item_id, times in visitor.impressions.items()
        if times >= limit
    )  # fmt: skip
    worn = [number for number in shown if number is not None and number < size]
    tiers[worn] += _AFTER_ALL
    return tiers
