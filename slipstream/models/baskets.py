"""Items that go into one basket: how often a visitor put both into the cart, or bought both, in one
sitting.

The strength of a companion is the confidence of the rule "with this item, also that one": the share
of the item's baskets that have both. R. Agrawal, T. Imieliński, A. Swami, "Mining association rules
between sets of items in large databases", SIGMOD 1993. Pairs of few baskets are left out, since
similar items predict a basket better than these (docs/performance.md).
"""

from typing import Any, Final

import numpy as np
from scipy import sparse

from slipstream.contracts.times import HOUR_MS
from slipstream.models.base import InteractionLog
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, strongest

# A cart or purchase this long after the visitor's last one begins another basket.
PAUSE_MS: Final = HOUR_MS
# A basket of more items is a bulk order, and says little of any pair.
MOST_ITEMS: Final = 50
# Fewest baskets that have both items of a pair.
FEWEST_BASKETS: Final = 3
# Companions that an item keeps, the strongest: 240 bytes.
KEPT: Final = 30
# Every item of a cart has the same vote.
_WEIGHTING: Final = HistoryWeighting(by_event=False)


def fit_baskets(log: InteractionLog) -> ItemToItem | None:
    """Fit the companions of each item from the log's carts and purchases.

    None where no two items share enough baskets, and where the log does not tell its carts and
    purchases.
    """
    if log.basket is None or not log.basket.any():
        return None
    user, item, time = (column[log.basket] for column in (log.user, log.item, log.timestamp))
    begins = np.ones(len(item), np.bool_)
    begins[1:] = (user[1:] != user[:-1]) | (time[1:] - time[:-1] > PAUSE_MS)
    basket = np.cumsum(begins) - 1
    held: Any = sparse.csr_array(
        (np.ones(len(item), np.float32), (basket, item)), shape=(basket[-1] + 1, log.n_items)
    )
    held.sum_duplicates()
    held.data[:] = 1.0
    sizes = np.diff(held.indptr)
    held = held[np.flatnonzero((sizes >= 2) & (sizes <= MOST_ITEMS))]
    number = np.asarray(held.sum(axis=0)).ravel()
    both: Any = (held.T @ held).tocoo()
    often = (both.row != both.col) & (both.data >= FEWEST_BASKETS)
    row, column = both.row[often], both.col[often]
    if not len(row):
        return None
    strength = both.data[often] / number[row]
    matrix: Any = sparse.csr_array(
        (strength.astype(np.float32), (row, column)), shape=(log.n_items, log.n_items)
    )
    return ItemToItem(*strongest(matrix, KEPT), _WEIGHTING)
