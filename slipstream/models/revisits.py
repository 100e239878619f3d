"""Revisits: the items of the history itself, the latest first.

J. Anderson, R. Kumar, A. Tomkins, S. Vassilvitskii, "The Dynamics of Repeat Consumption", WWW 2014:
recency is the best single predictor of a repeat. Shop sessions come back to the same product; a
film is rated once. The blend learns the difference.
"""

import numpy as np

from slipstream.models.neighbours import HistoryWeighting, ItemToItem


def revisits(n_items: int, position_exponent: float = 1.0) -> ItemToItem:
    """A retriever in which each item votes for itself; nothing is fitted."""
    weighting = HistoryWeighting(position_exponent=position_exponent, distinct=False)
    ones = np.ones(n_items, np.float32)
    return ItemToItem(
        ones, np.arange(n_items, dtype=np.int32), np.arange(n_items + 1, dtype=np.int64), weighting
    )
