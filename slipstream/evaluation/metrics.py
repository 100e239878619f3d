"""Metrics over the full catalogue: the ranking quality of lists, and their other properties.

Ranking is for one relevant item in each query: the item that came next. A rank is the place of the
relevant item, 0 for the first, `UNRANKED` when it was not in the list. Ranks over sampled negatives
are not offered: W. Krichene, S. Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020.

Lists are catalogue indices, one row for each query, negative entries padding: cut them to `[:, :k]`
for a metric at k. `counts` are each item's events before the queries, so that recommenders of the
same queries are measured by the same past.

Functions that return `Values` give one number for each query (0 for an empty list), and their mean
is the metric. The others are about all lists together. Beyond accuracy: S. Vargas, P. Castells,
"Rank and Relevance in Novelty and Diversity Metrics for Recommender Systems", RecSys 2011; M.
Kaminskas, D. Bridge, "Diversity, Serendipity, Novelty, and Coverage", ACM TiiS 7, 2017.
"""

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
Lists = NDArray[np.int32]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]

UNRANKED = np.iinfo(np.int64).max
# The short head: the fewest items with this share of all events. The rest is the long tail.
HEAD_SHARE = 0.8
_MOST_VISITORS = 20_000


def rank_in(scores: NDArray[np.float32] | Values, place: int) -> Ranks:
    """The rank of the candidate at `place` in each column of `scores` (candidates, columns).

    Of equal scores the first comes first, as in a stable sort.
    """
    own = scores[place]
    return np.asarray((scores > own).sum(axis=0) + (scores[:place] == own).sum(axis=0), np.int64)


def hit_rate(ranks: Ranks, k: int) -> Values:
    """1 where the item is among the first k (with one relevant item, recall@k), else 0."""
    return (ranks < k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """1 / log2(rank + 2) among the first k, else 0: with one relevant item the ideal gain is 1."""
    return np.where(ranks < k, 1 / np.log2(np.minimum(ranks, k) + 2.0), 0.0)


def mrr(ranks: Ranks, k: int) -> Values:
    """1 / (rank + 1) among the first k, else 0.

    With one relevant item this is average precision, too, since precision counts at its place only.
    So MAP@k is MRR@k here.
    """
    return np.where(ranks < k, 1 / (np.minimum(ranks, k) + 1.0), 0.0)


def coverage(shown: Lists, n_items: int) -> float:
    """The share of the catalogue that appears in any of the lists."""
    if n_items <= 0:
        return 0.0
    return len(np.unique(shown[shown >= 0])) / n_items


def gini(shown: Lists, n_items: int) -> float:
    """The inequality of the items' exposure: 0 when all are shown as often, 1 when only one is.

    It is the Gini coefficient, normalised by n - 1: G. Shani, A. Gunawardana, "Evaluating
    Recommendation Systems", Recommender Systems Handbook, 2011. It is 0 without lists, and for a
    catalogue of one item.
    """
    exposure = np.sort(np.bincount(shown[shown >= 0], minlength=n_items))
    if n_items < 2 or not exposure[-1]:
        return 0.0
    return float(
        (2 * np.arange(1, n_items + 1) - n_items - 1) @ exposure / exposure.sum() / (n_items - 1)
    )


def novelty(shown: Lists, counts: Counts) -> Values:
    """The mean self-information of the shown items, in bits.

    It is -log2 of each item's share of the events, with one added to each count: T. Zhou et al.,
    "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 107, 2010.
    """
    return _mean(-np.log2((counts + 1) / (counts.sum() + len(counts))), shown)


def long_tail(shown: Lists, counts: Counts) -> Values:
    """The share of each list outside the short head (`HEAD_SHARE`).

    It is low where popular items crowd out the others: H. Abdollahpouri, R. Burke, B. Mobasher,
    "Managing Popularity Bias in Recommender Systems with Personalized Re-ranking", FLAIRS 2019
    (average percentage of long tail items).
    """
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate(([0], np.cumsum(counts[order])[:-1]))
    tail = np.empty(len(counts), np.float64)
    tail[order] = before >= HEAD_SHARE * counts.sum()
    return _mean(tail, shown)


def diversity(
    shown: Lists, users: NDArray[np.int32], items: NDArray[np.int32], n_items: int
) -> Values:
    """Intra-list diversity: 1 - the mean similarity of two items of a list; 0 below two items.

    C.-N. Ziegler et al., "Improving Recommendation Lists through Topic Diversification", WWW 2005.
    The similarity of two items is the cosine of the sets of visitors who met them, so that it needs
    no attributes. An item without visitors resembles no other. `users` and `items` are those of the
    events before the queries. Of more than 20,000 visitors a sample is used.
    """
    every = 1 + users.max(initial=0) // _MOST_VISITORS
    sampled = users % every == 0
    met = np.unique(
        items[sampled].astype(np.int64) << 32 | users[sampled] // every
    )  # item by item, each visitor once
    visitors = met & 0xFFFFFFFF
    begins = np.searchsorted(met >> 32, np.arange(n_items + 1))
    counts = np.diff(begins)
    length = 1 / np.sqrt(np.maximum(counts, 1))
    result = np.zeros(len(shown), np.float64)
    for row, listed in enumerate(shown):
        places = listed[listed >= 0]
        if len(places) > 1:
            # The mean of all cosines follows from the sum of the items' unit vectors: |sum|^2 =
            # items + 2 x cosines.
            parts = [visitors[begins[place] : begins[place + 1]] for place in places]
            total = np.bincount(np.concatenate(parts), np.repeat(length[places], counts[places]))
            cosines = np.square(total).sum() - np.count_nonzero(counts[places])
            result[row] = 1 - cosines / (len(places) * (len(places) - 1))
    return result


def _mean(of_item: Values, shown: Lists) -> Values:
    """The mean of an item's property over each list."""
    listed = shown >= 0
    means: Values = np.where(listed, of_item[shown], 0.0).sum(axis=1) / np.maximum(
        listed.sum(axis=1), 1
    )
    return means
