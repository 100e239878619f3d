"""Appeal: the readiness with which an item is taken once a visitor looks at it.

The position-based click model, P(taken) = P(place is looked at) x appeal(item), separates it from
the place in the list: N. Craswell, O. Zoeter, M. Taylor, B. Ramsey, "An Experimental Comparison of
Click Position-Bias Models", WSDM 2008; X. Wang et al., "Position Bias Estimation for Unbiased
Learning to Rank in Personal Search", WSDM 2018. An item that was shown and passed over loses
appeal, the more the higher it stood.
"""

import numpy as np

from slipstream.models.base import Impressions, Scores

_ROUNDS = 20
# Views of an average item that are added to each item, so that few views say little.
_PRIOR = 20.0
# The last place that is told apart; all places further down are one.
_PLACES = 100


def fit_appeal(shown: Impressions, n_items: int) -> tuple[Scores, Scores]:
    """Fit the appeal of items and the examination of places, each in turn given the other.

    Both are the likeliest values for counts that are Poisson.

    Returns:
        The logarithm of each item's appeal relative to the average, 0 for items never shown; and
        the share of views of each place, relative to the first.
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
