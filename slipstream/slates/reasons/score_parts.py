"""The parts of listed items' scores: the retrievers', the ranker's, and the ranker's features."""

from typing import NamedTuple

import numpy as np

from slipstream.models.base import Indices, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import OrderedCandidates
from slipstream.recommender.ranking_features import ranking_features
from slipstream.recommender.stages import ListQuestion


class ScoreParts(NamedTuple):
    """The parts of one item's score, which is a logarithm; empty for an item that is no candidate.

    Attributes:
        source: The retriever with the largest part.
        retrievers: Each retriever's part by name, against the average candidate.
        ranker: The ranker's part, against the average of those that it ordered.
        features: The ranker's features by name; empty for a bundle that does not name them.
    """

    source: str | None
    retrievers: dict[str, float]
    ranker: float | None
    features: dict[str, float]


def score_parts(bundle: Bundle, question: ListQuestion, listed: Indices) -> list[ScoreParts]:
    """The parts of each listed item's score.

    Args:
        bundle: The bundle.
        question: The question that the list answers.
        listed: Numbers of the listed items; negative for one that the bundle does not know.
    """
    candidates = bundle.plan.candidates(question.history, question.request, question.excluded)
    row_of = dict(zip(candidates.items.tolist(), range(len(candidates.items)), strict=True))
    names = list(bundle.retrievers)
    parts = (candidates.features - _mean(candidates.features)) * bundle.blend.weights
    ranked = _ranked_parts(bundle, question, candidates)
    result = []
    for number in listed.tolist():
        row = row_of.get(number)
        if row is None:
            result.append(ScoreParts(None, {}, None, {}))
            continue
        correction, features = ranked.get(row, (None, {}))
        by_retriever = dict(zip(names, parts[row].tolist(), strict=True))
        source = names[int(np.argmax(parts[row]))]
        result.append(ScoreParts(source, by_retriever, correction, features))
    return result


def _ranked_parts(
    bundle: Bundle, question: ListQuestion, candidates: OrderedCandidates
) -> dict[int, tuple[float, dict[str, float]]]:
    """The ranker's part and features of each row that it ordered; empty without a ranker."""
    if bundle.ranking is None or not question.request.depth:
        return {}
    rows = np.flatnonzero(np.isfinite(candidates.order))
    by_retriever = candidates.features[rows]
    correction = candidates.order[rows] - bundle.blend.score(by_retriever)
    correction -= _mean(correction)
    names = bundle.ranking.features
    features = ranking_features(
        bundle.ranking.items, question.history, candidates.items[rows], by_retriever
    )
    return {
        row: (part, dict(zip(names, values, strict=True)) if names else {})
        for row, part, values in zip(
            rows.tolist(), correction.tolist(), features.tolist(), strict=True
        )
    }


def _mean(values: Scores) -> Scores:
    """The mean over rows, 0 of no rows."""
    return np.asarray(values.sum(axis=0) / np.float32(max(1, len(values))))
