"""The order of the candidates, fitted on validation queries: the blend of what the retrievers say,
corrected by the ranker.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.metrics import UNRANKED, hit_rate, mrr, ndcg, rank_in
from slipstream.models.blend import SILENT, fit_blend
from slipstream.models.ranker_fit import fit_ranker
from slipstream.recommender.ablation import Lists, ablation, importance
from slipstream.recommender.bundle import Bundle, Ranking
from slipstream.recommender.encoding import Query
from slipstream.recommender.ranking_features import ItemTable, feature_names, ranking_features
from slipstream.recommender.stages import Candidates, rank, shortlist, unwanted

# How many items of each retriever compete for a validation query's place.
_CANDIDATES = 50
# Retrievers that stay whatever validation says of them: for newcomers, for items that nobody has
# seen, for what is similar.
_KEPT = frozenset({"popularity", "content", "rules"})


def fit_ranking(
    bundle: Bundle,
    validation: Sequence[Query],
    users: NDArray[np.int32],
    table: ItemTable,
    seed: int,
) -> tuple[Bundle, dict[str, Any]]:
    """The bundle with its blend and, where one earns its place, its ranker, and without the
    retrievers that have no say; and what it reaches on the validation queries, with its `ablation`
    and, of a ranker, each feature's `importance`. `users` says who asks each query.
    """
    apart: dict[str, Any] = {}
    asked = [_open_candidates(bundle, query) for query in validation]
    places = [
        np.flatnonzero(one.items == query.label)
        for one, query in zip(asked, validation, strict=True)
    ]
    usable = [row for row, place in enumerate(places) if len(place)]
    if usable:
        lengths = np.array([len(asked[row]) for row in usable])
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        labels = begins + np.array([places[row][0] for row in usable])
        scores = np.concatenate([asked[row].scores for row in usable])
        totals = np.stack([asked[row].totals for row in usable])
        blend = fit_blend(scores, totals, begins, labels, bundle.blend)
        names = list(bundle.retrievers)
        heard = [
            place
            for place, name in enumerate(names)
            if blend.weights[place] > SILENT or name in _KEPT
        ]
        bundle = replace(
            bundle,
            retrievers={names[place]: bundle.retrievers[names[place]] for place in heard},
            blend=replace(blend, weights=blend.weights[heard], floors=blend.floors[heard]),
        )
        asked = [_heard(bundle, one, heard) for one in asked]
        weighed = np.concatenate([asked[row].features for row in usable])
        blended = bundle.blend.score(weighed)
        features = np.concatenate(
            [
                ranking_features(
                    table, validation[row].history, asked[row].items, asked[row].features
                )
                for row in usable
            ]
        )
        lists = Lists(begins, labels, len(validation))
        apart["ablation"] = ablation(lists, scores, weighed, bundle.blend, names, heard)
        if ranker := fit_ranker(features, blended, begins, labels, users[usable], seed):
            bundle = replace(bundle, ranking=Ranking(ranker, table))
            told = feature_names(list(bundle.retrievers), bundle.attributes or {})
            apart["importance"] = importance(lists, ranker, features, blended, told, seed)
    ranks = np.array(
        [
            _label_rank(bundle, query, one, place)
            for query, one, place in zip(validation, asked, places, strict=True)
        ],
        np.int64,
    )
    named = (("hit_rate", hit_rate), ("ndcg", ndcg), ("mrr", mrr))
    return bundle, {
        f"{name}@{k}": float(metric(ranks, k).mean()) for name, metric in named for k in (10, 20)
    } | apart


def _open_candidates(bundle: Bundle, query: Query) -> Candidates:
    """The candidates that compete for the next place: without the history's items unless these may
    come again.
    """
    return shortlist(
        bundle, query.history, 1, exclude=unwanted(bundle, query.history), limit=_CANDIDATES
    )


def _heard(bundle: Bundle, candidates: Candidates, columns: list[int]) -> Candidates:
    """The candidates as the bundle's own retrievers and blend see them."""
    scores, totals = candidates.scores[:, columns], candidates.totals[columns]
    return Candidates(candidates.items, scores, bundle.blend.features(scores, totals), totals)


def _label_rank(
    bundle: Bundle, query: Query, candidates: Candidates, place: NDArray[np.int64]
) -> int:
    """How many candidates come before the one at `place`; UNRANKED where it is not among them."""
    if not len(place):
        return int(UNRANKED)
    return int(rank_in(rank(bundle, query.history, candidates), int(place[0])))
