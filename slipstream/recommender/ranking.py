"""The order of the candidates: the blend of the retrievers' scores, corrected by the ranker.

Both are fitted on validation queries. On these, an ablation measures the NDCG@10 that each part of
the recommender adds, as the mean over all queries; a query without its item among the candidates
counts 0. The candidates stay the same whichever part is left out: an item that only one retriever
proposed stays a candidate without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.bundle import Ablation, ValidationMetrics
from slipstream.evaluation.metrics import UNRANKED, hit_rate, mrr, ndcg, rank_in
from slipstream.models.base import Scores
from slipstream.models.blend import SILENT, Blend, fit_blend
from slipstream.models.ranker import Ranker
from slipstream.models.ranker_fit import fit_ranker
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.ranking_features import (
    ItemTable,
    Ranking,
    feature_names,
    ranking_features,
)
from slipstream.recommender.stages import Candidates, rank, shortlist, unwanted

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
        scores: Scores of all retrievers, (candidates, retrievers).
        features: Features of the retrievers that the blend weighs, (candidates, weighed).
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
    queries. Of more than 1,000 queries, 1,000 at most are taken, evenly spread. Features are
    (candidates, features); `blended` has the blend's score of each candidate.
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


# How many items of each retriever compete for a validation query's place. In serving five times as
# many do. That many make no better list here (docs/measurements/quality.md), and would take half a
# gigabyte more.
_CANDIDATES = 50
# Retrievers that stay however little validation weighs them: for newcomers, for unseen items, for
# similar items.
_KEPT = frozenset({"popularity", "content", "rules"})


def fit_ranking(
    bundle: Bundle,
    validation: Sequence[Query],
    users: NDArray[np.int32],
    table: ItemTable,
    seed: int,
) -> tuple[Bundle, ValidationMetrics]:
    """The bundle with a fitted order, and its figures on the validation queries.

    Returns:
        The bundle with its blend and, where one makes the validation lists better, its ranker; and
        without the retrievers that the blend gives no weight.
    """
    asked = [_open_candidates(bundle, query) for query in validation]
    places = [
        np.flatnonzero(candidates.items == query.label)
        for candidates, query in zip(asked, validation, strict=True)
    ]
    ablated, importances = None, None
    usable = [row for row, place in enumerate(places) if len(place)]
    if usable:
        pool = _Pool.of([asked[row] for row in usable], [int(places[row][0]) for row in usable])
        names = list(bundle.retrievers)
        bundle, weighed = _blended(bundle, pool)
        asked = [_seen_by(bundle, candidates, weighed) for candidates in asked]
        features = np.concatenate([asked[row].features for row in usable])
        lists = Lists(pool.begins, pool.labels, len(validation))
        ablated = ablation(lists, pool.scores, features, bundle.blend, names, weighed)
        blended = bundle.blend.score(features)
        inputs = np.concatenate(
            [
                ranking_features(
                    table, validation[row].history, asked[row].items, asked[row].features
                )
                for row in usable
            ]
        )
        if ranker := fit_ranker(inputs, blended, pool.begins, pool.labels, users[usable], seed):
            columns = feature_names(list(bundle.retrievers), bundle.attributes or {})
            bundle = replace(bundle, ranking=Ranking(ranker, table, columns))
            importances = importance(lists, ranker, inputs, blended, columns, seed)
    ranks = np.array(
        [
            _label_rank(bundle, query, candidates, place)
            for query, candidates, place in zip(validation, asked, places, strict=True)
        ],
        np.int64,
    )
    return bundle, _validation_metrics(ranks, ablated, importances)


@dataclass(frozen=True)
class _Pool:
    """Candidates of the queries that have their item among them, one query after the other.

    Attributes:
        begins: First row of each query, ascending from 0.
        labels: Row of the item that came next, for each query.
        scores: Scores of all retrievers, (candidates, retrievers).
        totals: Sums of all scores of each retriever, (queries, retrievers).
    """

    begins: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    totals: NDArray[np.float32]

    @classmethod
    def of(cls, asked: Sequence[Candidates], places: Sequence[int]) -> "_Pool":
        lengths = np.array([len(candidates) for candidates in asked])
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        scores = np.concatenate([candidates.scores for candidates in asked])
        totals = np.stack([candidates.totals for candidates in asked])
        return cls(begins, begins + np.array(places), scores, totals)


def _blended(bundle: Bundle, pool: _Pool) -> tuple[Bundle, list[int]]:
    """The bundle with its blend, and the places of the retrievers that stay."""
    blend = fit_blend(pool.scores, pool.totals, pool.begins, pool.labels, bundle.blend)
    names = list(bundle.retrievers)
    weighed = [
        place for place, name in enumerate(names) if blend.weights[place] > SILENT or name in _KEPT
    ]
    bundle = replace(
        bundle,
        retrievers={names[place]: bundle.retrievers[names[place]] for place in weighed},
        blend=replace(blend, weights=blend.weights[weighed], floors=blend.floors[weighed]),
    )
    return bundle, weighed


def _validation_metrics(
    ranks: NDArray[np.int64], ablated: Ablation | None, importances: dict[str, float] | None
) -> ValidationMetrics:
    metrics = (("hit_rate", hit_rate), ("ndcg", ndcg), ("mrr", mrr))
    figures = {
        f"{name}@{k}": float(metric(ranks, k).mean()) for name, metric in metrics for k in (10, 20)
    }
    return ValidationMetrics.model_validate(
        {**figures, "ablation": ablated, "importance": importances}
    )


def _open_candidates(bundle: Bundle, query: Query) -> Candidates:
    """The candidates, without the history's items unless these may come again."""
    return shortlist(
        bundle, query.history, exclude=unwanted(bundle, query.history), limit=_CANDIDATES
    )


def _seen_by(bundle: Bundle, candidates: Candidates, columns: list[int]) -> Candidates:
    """The candidates as the bundle's retrievers, those of these columns, and its blend see them."""
    scores, totals = candidates.scores[:, columns], candidates.totals[columns]
    return Candidates(candidates.items, scores, bundle.blend.features(scores, totals), totals)


def _label_rank(
    bundle: Bundle, query: Query, candidates: Candidates, place: NDArray[np.int64]
) -> int:
    """The number of candidates before that at `place`; UNRANKED where it is empty."""
    if not len(place):
        return int(UNRANKED)
    return int(rank_in(rank(bundle, query.history, candidates), int(place[0])))
