"""Ablation of a recommender: the NDCG@10 that each of its parts adds.

It is measured on the validation queries that blend and ranker were fitted on, as the mean over all
queries; a query whose item is not among its candidates counts 0. The candidates stay the same
whichever part is left out: an item that only one retriever proposed stays a candidate without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.bundle import Ablation
from slipstream.evaluation.metrics import ndcg
from slipstream.models.base import Scores
from slipstream.models.blend import Blend
from slipstream.models.ranker import Ranker

K = 10
# Most queries that importance is measured on: for each feature the ranker scores all their
# candidates.
_MOST_QUERIES = 1_000


@dataclass(frozen=True)
class Lists:
    """The candidates of one query after the other, as rows.

    Attributes:
        begins: First row of each query, ascending from 0.
        labels: Row of the item that came next, for each query.
        queries: Number of queries, those whose item is not among their candidates included.
    """

    begins: NDArray[np.int64]
    labels: NDArray[np.int64]
    queries: int

    def ndcg(self, score: Scores) -> float:
        """NDCG@10 of the candidates in the order of their scores.

        Ties go to the item that comes first in the catalogue, as in serving.
        """
        lengths = np.diff(np.append(self.begins, len(score)))
        of_label, at = np.repeat(score[self.labels], lengths), np.repeat(self.labels, lengths)
        ahead = (score > of_label) | ((score == of_label) & (np.arange(len(score)) < at))
        ranks = np.add.reduceat(ahead.astype(np.int64), self.begins)
        return float(ndcg(ranks, K).sum()) / self.queries

    def every(self, step: int, size: int) -> "tuple[Lists, NDArray[np.int64]]":
        """Each `step`-th query, and the rows, of `size`, that are its candidates."""
        lengths = np.diff(np.append(self.begins, size))[::step]
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        moved = self.begins[::step] - begins
        rows = np.repeat(moved, lengths) + np.arange(lengths.sum())
        return Lists(begins, self.labels[::step] - moved, len(begins)), rows


def ablation(
    lists: Lists,
    scores: Scores,
    features: Scores,
    blend: Blend,
    names: Sequence[str],
    weighed: Sequence[int],
) -> Ablation:
    """NDCG@10 of each retriever alone, of the blend, and of the blend without each retriever.

    The blend's other exponents stay as they are; none of it has the ranker.

    Args:
        lists: Candidates of the queries.
        scores: Scores of all retrievers, (candidates, retrievers).
        features: Features of the retrievers that the blend weighs, (candidates, weighed).
        blend: The blend.
        names: Names of all retrievers, in the order of the columns of `scores`.
        weighed: Columns of `scores` that the blend weighs, in the order of its weights.
    """
    every = range(len(weighed))
    return Ablation(
        alone={name: lists.ndcg(scores[:, place]) for place, name in enumerate(names)},
        blend=lists.ndcg(blend.score(features)),
        without={
            names[weighed[out]]: lists.ndcg(
                blend.only([place for place in every if place != out]).score(features)
            )
            for out in every
        },
    )


def importance(
    lists: Lists, ranker: Ranker, features: Scores, blended: Scores, names: Sequence[str], seed: int
) -> dict[str, float]:
    """The NDCG@10 that the ranker loses when a feature is shuffled, by the feature's name.

    L. Breiman, "Random Forests", Machine Learning 45, 2001 (permutation importance). Negative where
    chance is better. A feature that is the same for all candidates of a query is shuffled between
    queries. Of more than 1,000 queries, 1,000 at most are taken, evenly spread.

    Args:
        lists: Candidates of the queries.
        ranker: The ranker.
        features: Features of the candidates, (candidates, features).
        blended: The blend's score of each candidate.
        names: Name of each feature.
        seed: Seed of the shuffling.
    """
    part, rows = lists.every(-(-len(lists.begins) // _MOST_QUERIES), len(features))
    features, blended = features[rows], blended[rows]
    lengths = np.diff(np.append(part.begins, len(rows)))
    random = np.random.default_rng(seed)
    whole, lost = part.ndcg(blended + ranker.correct(features)), {}
    for column, name in enumerate(names):
        kept = features[:, column].copy()
        of_query = kept[part.begins]
        if (np.repeat(of_query, lengths) == kept).all():
            features[:, column] = np.repeat(random.permutation(of_query), lengths)
        else:
            features[:, column] = random.permutation(kept)
        lost[name] = whole - part.ndcg(blended + ranker.correct(features))
        features[:, column] = kept
    return lost
