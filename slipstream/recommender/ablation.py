"""Which part of a recommender adds what, measured on the validation queries that blend and ranker
were fitted on.

Everything is told in NDCG@10 over all queries; one whose item is not among its candidates counts 0.
The candidates stay the same whatever is left out: what a retriever alone proposes is not taken away
with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.metrics import ndcg
from slipstream.models.base import Scores
from slipstream.models.blend import Blend
from slipstream.models.ranker import Ranker

K = 10
# Importance is measured on so many at most, since each feature takes the ranker once over all their
# candidates.
_MOST_QUERIES = 1_000


@dataclass(frozen=True)
class Lists:
    """The candidates of one query after the other: `begins` is the first row of each query,
    ascending from 0, `labels` the row of the item that came next. `queries` counts those without
    that item, too.
    """

    begins: NDArray[np.int64]
    labels: NDArray[np.int64]
    queries: int

    def ndcg(self, score: Scores) -> float:
        """What this order of the candidates reaches; ties go to the item that comes first in the
        catalogue, as in serving.
        """
        lengths = np.diff(np.append(self.begins, len(score)))
        own, at = np.repeat(score[self.labels], lengths), np.repeat(self.labels, lengths)
        ahead = (score > own) | ((score == own) & (np.arange(len(score)) < at))
        return (
            float(ndcg(np.add.reduceat(ahead.astype(np.int64), self.begins), K).sum())
            / self.queries
        )

    def every(self, step: int, size: int) -> "tuple[Lists, NDArray[np.int64]]":
        """Every so many queries, and which rows of all, `size`, are their candidates."""
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
    heard: Sequence[int],
) -> dict[str, float | dict[str, float]]:
    """NDCG@10 of each retriever `alone`, of the `blend` of those that are heard, and of the blend
    `without` each of them, whose other exponents stay; none of it has the ranker.

    `scores` (candidates, retrievers) are of all retrievers in the order of `names`, `features`
    (candidates, heard) of those that the blend weighs.
    """
    every = range(len(heard))
    return {
        "alone": {name: lists.ndcg(scores[:, place]) for place, name in enumerate(names)},
        "blend": lists.ndcg(blend.score(features)),
        "without": {
            names[heard[out]]: lists.ndcg(
                blend.only([place for place in every if place != out]).score(features)
            )
            for out in every
        },
    }


def importance(
    lists: Lists, ranker: Ranker, features: Scores, blended: Scores, names: Sequence[str], seed: int
) -> dict[str, float]:
    """How much NDCG@10 the ranker loses when one feature is shuffled, for each feature by name;
    negative where chance is better.

    L. Breiman, "Random Forests", Machine Learning 45, 2001 (permutation importance). What is the
    same for all candidates of a query is shuffled between queries. Of more than 1,000 queries so
    many are looked at, evenly spread.
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
