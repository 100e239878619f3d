"""The stages in NumPy, as the models define them: what the kernels' lists are compared with."""

from collections.abc import Sequence

import numpy as np

from slipstream.models.base import History, Indices, Mask, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Candidates, rank

# An item, its probability, and the retrievers that may be its source: the parts of some are equal.
Entry = tuple[int, float, set[int]]


def reference_candidates(
    bundle: Bundle,
    history: History,
    limit: int,
    exclude: Indices | None = None,
    allowed: Mask | None = None,
) -> Candidates:
    """The `limit` best of each retriever, each item once, ascending, without the excluded."""
    hidden = exclude if exclude is not None else np.empty(0, np.int32)
    retrievers = list(bundle.retrievers.values())
    scored = [retriever.score(history) for retriever in retrievers]
    proposed = [
        retriever.propose(one, limit + len(hidden), allowed)
        for retriever, one in zip(retrievers, scored, strict=True)
    ]
    items = np.setdiff1d(np.concatenate(proposed), hidden).astype(np.int32)
    return reference_scores(bundle, history, items)


def reference_scores(bundle: Bundle, history: History, items: Indices) -> Candidates:
    """The scores of given items by every retriever."""
    retrievers = list(bundle.retrievers.values())
    scored = [retriever.score(history) for retriever in retrievers]
    scores = np.stack(
        [retriever.score_at(one, items) for retriever, one in zip(retrievers, scored, strict=True)],
        axis=1,
    )
    totals = np.array([one.score.sum() for one in scored], np.float32)
    return Candidates(items, scores, bundle.blend.features(scores, totals), totals)


def reference_list(
    bundle: Bundle,
    history: History,
    n: int,
    limit: int,
    depth: int,
    exclude: Indices | None = None,
    allowed: Mask | None = None,
) -> list[Entry]:
    """The list of a history."""
    candidates = reference_candidates(bundle, history, limit, exclude, allowed)
    return ordered(bundle, candidates, rank(bundle, history, candidates, depth), n)


def ordered(bundle: Bundle, candidates: Candidates, score: Scores, n: int) -> list[Entry]:
    if not len(candidates):
        return []
    rows: Sequence[int] = np.argsort(-score, kind="stable")[:n].tolist()
    probability = np.exp(score - score.max())
    probability /= probability.sum()
    parts = (candidates.features - candidates.features.mean(axis=0)) * bundle.blend.weights
    return [
        (
            int(candidates.items[row]),
            float(probability[row]),
            set(np.flatnonzero(parts[row] >= parts[row].max() - 1e-5).tolist()),
        )
        for row in rows
        if score[row] > -np.inf
    ]
