"""Appeal: how readily an item is taken once it is looked at, whatever the place in the list that it
was shown in.

The position-based click model, P(taken) = P(place is looked at) x appeal(item): N. Craswell, O.
Zoeter, M. Taylor, B. Ramsey, "An Experimental Comparison of Click Position-Bias Models", WSDM 2008;
X. Wang et al., "Position Bias Estimation for Unbiased Learning to Rank in Personal Search", WSDM
2018. What was shown and passed over counts against an item here, the more the higher it stood.
"""

import numpy as np

from slipstream.models.base import Impressions, Scores

_ROUNDS = 20
# An item is taken for average until it was looked at about so often.
_PRIOR = 20.0
# Further down all places are one.
_PLACES = 100


def fit_appeal(shown: Impressions, n_items: int) -> tuple[Scores, Scores]:
    """The logarithm of each item's appeal relative to the average, 0 for what was never shown; and
    how often each place is looked at, relative to the first. Each in turn is the likeliest given
    the other, for counts that are Poisson.
    """
    place = np.minimum(shown.position, _PLACES - 1)
    taken = shown.taken.astype(np.float64)
    looked = np.ones(_PLACES)
    appeal = np.ones(n_items)
    if not taken.any():
        return np.zeros(n_items, np.float32), looked.astype(np.float32)
    by_item, by_place = np.bincount(shown.item, taken, n_items), np.bincount(place, taken, _PLACES)
    rate = taken.mean()
    for _ in range(_ROUNDS):
        expected = np.bincount(place, appeal[shown.item], _PLACES)
        looked = np.where(expected > 0, by_place / np.maximum(expected, 1e-12), rate)
        appeal = (by_item + _PRIOR * rate) / (
            np.bincount(shown.item, looked[place], n_items) + _PRIOR * rate
        )
    return np.log(appeal).astype(np.float32), (looked / max(looked[0], 1e-12)).astype(np.float32)
