"""Ranking metrics over the full catalogue, for one relevant item a query: the item that came next.

A rank is the place of the relevant item, 0 for the first, `UNRANKED` when it was not in the list at all. Each function returns
one number a query; their mean is the metric. Ranks over sampled negatives are not offered: W. Krichene, S. Rendle, "On Sampled
Metrics for Item Recommendation", KDD 2020.
"""

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
Values = NDArray[np.float64]

UNRANKED = np.iinfo(np.int64).max


def hit_rate(ranks: Ranks, k: int) -> Values:
    """1 where the item is among the first k (with one relevant item, recall@k), else 0."""
    return (ranks < k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """1 / log2(rank + 2) among the first k, else 0: with one relevant item the ideal gain is 1."""
    return np.where(ranks < k, 1 / np.log2(np.minimum(ranks, k) + 2.0), 0.0)


def mrr(ranks: Ranks, k: int) -> Values:
    """1 / (rank + 1) among the first k, else 0."""
    return np.where(ranks < k, 1 / (np.minimum(ranks, k) + 1.0), 0.0)


def coverage(shown: NDArray[np.int32], n_items: int) -> float:
    """The share of the catalogue that appears in any of the lists. `shown` may have any shape; negative entries are padding."""
    if n_items <= 0:
        return 0.0
    return len(np.unique(shown[shown >= 0])) / n_items
