"""Boosts: scores multiplied by the factors of the rules that match."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.candidates import Match
from slipstream.contracts.placements import BoostRule

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
