"""The stages of a recommendation: candidates, filtering, ranking.

The REST endpoint and offline evaluation both run these, in NumPy alone.

A request costs the events of the history times the neighbours of each, whatever the size of the
catalogue, and the network's comparison of one vector with the items' vectors: with all of them up
to 20,000 items, with the nearest clusters beyond (docs/adr/0018).
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import History, Indices, Mask, Scores, SparseScores
from slipstream.models.blend import Blend
from slipstream.recommender.bundle import Bundle

# Items that each retriever proposes.
CANDIDATES = 250
# Best candidates of the blend that the ranker orders, unless more items are asked for.
RANKED = 200

# An event of a request or of the feature store: item id, event type, time in ms, value.
AnyEvent = tuple[str, str, int, float | None]


class Event(NamedTuple):
    """An event of a history."""

    item_id: str
    event_type: str = "view"
    timestamp_ms: int = 0
    value: float | None = None


class Recommendation(NamedTuple):
    """A recommended item.

    `score` is its probability among the candidates. `source` is the retriever with the largest part
    of the score, each part counted from that retriever's average candidate.
    """

    item_id: str
    score: float
    source: str


@dataclass(frozen=True)
class Candidates:
    """The items proposed for a history; columns are retrievers, in the bundle's order.

    Attributes:
        items: Items, each once, in ascending order of index.
        scores: Score of each item by each retriever, also by those that did not propose it.
        features: Log-probabilities that the blend adds up.
        totals: Sum of all scores of each retriever.
    """

    items: Indices
    scores: Scores
    features: Scores
    totals: Scores

    def __len__(self) -> int:
        return len(self.items)

    def select(self, keep: NDArray[np.bool_]) -> "Candidates":
        """The candidates of a mask or of row numbers."""
        return Candidates(self.items[keep], self.scores[keep], self.features[keep], self.totals)


def encode_history(bundle: Bundle, history: Iterable[AnyEvent]) -> History:
    """The events that have a weight above 0 and an item that the bundle knows."""
    item, weight, timestamp = [], [], []
    index, weight_of = bundle.index, bundle.event_weights.weight
    for item_id, event_type, timestamp_ms, value in history:
        place = index.get(item_id)
        if place is not None and (event_weight := weight_of(event_type, value)) > 0:
            item.append(place)
            weight.append(event_weight)
            timestamp.append(timestamp_ms)
    return History(
        np.array(item, np.int32), np.array(weight, np.float32), np.array(timestamp, np.int64)
    )


def retrieve(
    bundle: Bundle, history: History, limit: int = CANDIDATES, allowed: Mask | None = None
) -> Candidates:
    """The `limit` best allowed items of each retriever; for an empty history, the popular ones.

    Args:
        bundle: The bundle.
        history: The visitor's history.
        limit: Items that each retriever proposes.
        allowed: Items that may be proposed; None allows all. Places past the bundle's last item
            are not looked at.

    Returns:
        The candidates. Their scores do not depend on the mask.
    """
    if allowed is not None:
        allowed = allowed[: len(bundle.item_ids)]
    scored = [retriever.score(history) for retriever in bundle.retrievers.values()]
    proposals = [
        retriever.propose(proposal, limit, allowed)
        for retriever, proposal in zip(bundle.retrievers.values(), scored, strict=True)
    ]
    return _candidates(bundle, scored, _union(proposals))


def _candidates(bundle: Bundle, scored: Sequence[SparseScores], items: Indices) -> Candidates:
    scores = np.empty((len(items), len(scored)), np.float32)
    retrievers = bundle.retrievers.values()
    for column, (retriever, proposal) in enumerate(zip(retrievers, scored, strict=True)):
        scores[:, column] = retriever.score_at(proposal, items)
    totals = np.array([proposal.score.sum() for proposal in scored], np.float32)
    return Candidates(items, scores, bundle.blend.features(scores, totals), totals)


def filter_candidates(bundle: Bundle, candidates: Candidates, exclude: Set[str]) -> Candidates:
    """The candidates without the items of `exclude`."""
    if not exclude or not len(candidates):
        return candidates
    keep = np.ones(len(candidates), np.bool_)
    index, last = bundle.index, len(candidates) - 1
    unwanted = np.array([index[item_id] for item_id in exclude if item_id in index], np.int32)
    place = np.minimum(np.searchsorted(candidates.items, unwanted), last)
    keep[place[candidates.items[place] == unwanted]] = False
    return candidates.select(keep)


def rank(bundle: Bundle, history: History, candidates: Candidates, depth: int = RANKED) -> Scores:
    """The score of each candidate, a log-probability up to a constant; higher is better.

    A ranker orders the blend's `depth` best candidates only, and the others are -inf. A bundle
    without a ranker gives every candidate its score by the blend.
    """
    score = bundle.blend.score(candidates.features)
    if bundle.ranking is None or not len(candidates):
        return score
    best = np.arange(len(score))
    if len(score) > depth:
        best = np.argpartition(-score, depth - 1)[:depth]
    corrected = np.full_like(score, -np.inf)
    corrected[best] = score[best] + bundle.ranking.correct(
        history, candidates.items[best], candidates.features[best]
    )
    return corrected


def unwanted(bundle: Bundle, history: History) -> set[str]:
    """The items that are not shown after this history: its own, unless the bundle repeats items."""
    return set() if bundle.repeats else {bundle.item_ids[item] for item in history.item}


def shortlist(
    bundle: Bundle,
    history: History,
    n: int,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Mask | None = None,
    limit: int = CANDIDATES,
) -> Candidates:
    """The candidates after retrieval and filtering: `n` or more where as many may be shown.

    Args:
        bundle: The bundle.
        history: The visitor's history.
        n: Number of items that will be shown.
        exclude: Ids of items that may not be shown.
        allowed: Mask of the items that may be shown; None allows all.
        limit: Allowed items that each retriever proposes, at least `n`, beside one for each of
            `exclude`.
    """
    depth = max(limit, n) + len(exclude)
    return filter_candidates(bundle, retrieve(bundle, history, depth, allowed), exclude)


def recommend(
    bundle: Bundle,
    history: Iterable[AnyEvent],
    n: int = 10,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Mask | None = None,
    repeats: bool | None = None,
    limit: int = CANDIDATES,
) -> list[Recommendation]:
    """The `n` best items for a history, fewer where no more may be shown.

    Args:
        bundle: The bundle.
        history: Events, oldest first.
        n: Number of items.
        exclude: Ids of items that may not be shown.
        allowed: Mask of the items that may be shown; None allows all.
        repeats: Whether items of the history may be shown; None leaves it to the bundle.
        limit: Items that each retriever proposes.
    """
    events = list(history)
    if not (bundle.repeats if repeats is None else repeats):
        exclude = exclude | {event[0] for event in events}
    encoded = encode_history(bundle, events)
    candidates = shortlist(bundle, encoded, n, exclude=exclude, allowed=allowed, limit=limit)
    return _recommendations(
        bundle, candidates, n, rank(bundle, encoded, candidates, max(n, RANKED)), bundle.blend
    )


def similar_items(
    bundle: Bundle,
    item_id: str,
    n: int = 10,
    *,
    allowed: Mask | None = None,
    limit: int = CANDIDATES,
) -> list[Recommendation]:
    """The `n` items that go best with an item, by the item-to-item retrievers alone.

    The item counts as the whole history of a visitor, and popularity has no say. Empty for an item
    that the bundle does not know.
    """
    if item_id not in bundle.index:
        return []
    related = [
        place
        for place, retriever in enumerate(bundle.retrievers.values())
        if retriever.kind == "item-to-item"
    ]
    depth = max(limit, n + 1)
    proposed = retrieve(bundle, encode_history(bundle, [Event(item_id)]), depth, allowed)
    similar = proposed.select(np.any(proposed.scores[:, related] > 0, axis=1))
    candidates = filter_candidates(bundle, similar, {item_id})
    blend = bundle.blend.only(related)
    return _recommendations(bundle, candidates, n, blend.score(candidates.features), blend)


def rank_items(
    bundle: Bundle, history: Iterable[AnyEvent], item_ids: Iterable[str]
) -> list[Recommendation]:
    """The given items that the bundle knows, each once, best for this history first."""
    places = {bundle.index[item_id] for item_id in item_ids if item_id in bundle.index}
    encoded = encode_history(bundle, history)
    scored = [retriever.score(encoded) for retriever in bundle.retrievers.values()]
    candidates = _candidates(bundle, scored, np.array(sorted(places), np.int32))
    score = rank(bundle, encoded, candidates, max(1, len(candidates)))
    return _recommendations(bundle, candidates, len(places), score, bundle.blend)


def _union(proposals: Sequence[Indices]) -> Indices:
    """Every item once, ascending.

    np.unique hashes first, which takes four times as long for a few hundred items.
    """
    items = np.sort(np.concatenate(proposals))
    first = np.ones(len(items), np.bool_)
    np.not_equal(items[1:], items[:-1], out=first[1:])
    return items[first]


def _recommendations(
    bundle: Bundle, candidates: Candidates, n: int, score: Scores, blend: Blend
) -> list[Recommendation]:
    if not len(candidates):
        return []
    rows = np.argsort(-score, kind="stable")[:n]
    probability = np.exp(score - score.max())
    probability /= probability.sum()
    parts = (candidates.features[rows] - candidates.features.mean(axis=0)) * blend.weights
    names = list(bundle.retrievers)
    columns = (candidates.items[rows], probability[rows], parts.argmax(axis=1))
    return [
        Recommendation(bundle.item_ids[item], score_of_item, names[largest])
        for item, score_of_item, largest in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]
