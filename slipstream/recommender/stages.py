"""The stages of a recommendation: candidates, ranking, filtering. The REST endpoint and offline
evaluation both run these.

One request costs events of the history x neighbours of each, whatever the size of the catalogue, in
NumPy alone.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import History, Indices, Scored, Scores
from slipstream.models.blend import Blend
from slipstream.recommender.bundle import Bundle

# How many items each retriever proposes.
CANDIDATES = 250
# How many of the candidates the ranker looks at, unless more are asked for.
RANKED = 200

# Which items may be shown: a predicate on item ids, or a mask over the bundle's catalogue.
Allowed = Callable[[str], bool] | NDArray[np.bool_]


# Item id, event type, time in ms, value: what `Event` is, and an event of the feature store.
AnyEvent = tuple[str, str, int, float | None]


class Event(NamedTuple):
    """One event of a history, as it comes from the feature store or a request."""

    item_id: str
    event_type: str = "view"
    timestamp_ms: int = 0
    value: float | None = None


class Recommendation(NamedTuple):
    """An item, its probability among the candidates, and what brought it here: the retriever with
    the largest part of the score, each counted above (or below) its average candidate.
    """

    item_id: str
    score: float
    source: str


@dataclass(frozen=True)
class Candidates:
    """The items proposed for one history, each once, in ascending order of index. Columns are
    retrievers, in the bundle's order.

    `scores` are their own scores, also of items that others proposed, `totals` the sums of all
    their scores, and `features` the log-probabilities that the blend adds up.
    """

    items: Indices
    scores: Scores
    features: Scores
    totals: Scores

    def __len__(self) -> int:
        return len(self.items)

    def select(self, keep: NDArray[np.bool_]) -> "Candidates":
        return Candidates(self.items[keep], self.scores[keep], self.features[keep], self.totals)


def encode_history(bundle: Bundle, history: Iterable[AnyEvent]) -> History:
    """The events that say something (weight above 0) about an item that the bundle knows; the rest
    is skipped.
    """
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


def retrieve(bundle: Bundle, history: History, limit: int = CANDIDATES) -> Candidates:
    """The union of the `limit` best of each retriever. An empty history leaves what is popular."""
    scored = [retriever.score(history) for retriever in bundle.retrievers.values()]
    return _candidates(bundle, scored, _union([_best(one, limit) for one in scored]))


def _candidates(bundle: Bundle, scored: Sequence[Scored], items: Indices) -> Candidates:
    scores = np.empty((len(items), len(scored)), np.float32)
    for column, (retriever, one) in enumerate(zip(bundle.retrievers.values(), scored, strict=True)):
        scores[:, column] = retriever.score_at(one, items)
    totals = np.array([one.score.sum() for one in scored], np.float32)
    return Candidates(items, scores, bundle.blend.features(scores, totals), totals)


def filter_candidates(
    bundle: Bundle,
    candidates: Candidates,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Allowed | None = None,
) -> Candidates:
    """Without the items of `exclude` and those that are not allowed."""
    keep = np.ones(len(candidates), np.bool_)
    if exclude and len(candidates):
        index, last = bundle.index, len(candidates) - 1
        unwanted = np.array([index[item_id] for item_id in exclude if item_id in index], np.int32)
        place = np.minimum(np.searchsorted(candidates.items, unwanted), last)
        keep[place[candidates.items[place] == unwanted]] = False
    if callable(allowed):
        permitted = [allowed(bundle.item_ids[item]) for item in candidates.items[keep]]
        keep[np.flatnonzero(keep)] = permitted
    elif allowed is not None:
        keep &= allowed[candidates.items]
    return candidates.select(keep)


def rank(bundle: Bundle, history: History, candidates: Candidates, depth: int = RANKED) -> Scores:
    """The score of each candidate, a log-probability up to a constant; higher is better.

    The ranker looks at the blend's `depth` best only; the others are -inf then, if the bundle has
    one.
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
    """What is not to be shown to somebody with this history: its items, unless visitors come back
    to what they had.
    """
    return set() if bundle.repeats else {bundle.item_ids[item] for item in history.item}


def shortlist(
    bundle: Bundle,
    history: History,
    n: int,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Allowed | None = None,
    limit: int = CANDIDATES,
) -> Candidates:
    """Retrieval and filtering together: at least `n` candidates where the retrievers know as many
    that may be shown.

    Each retriever proposes `limit` items and one more for each excluded; when filters leave fewer
    than `n`, it goes deeper.
    """
    depth = limit + len(exclude)
    while True:
        candidates = filter_candidates(
            bundle, retrieve(bundle, history, depth), exclude=exclude, allowed=allowed
        )
        if len(candidates) >= n or depth >= len(bundle.item_ids):
            return candidates
        depth *= 8


def recommend(
    bundle: Bundle,
    history: Iterable[AnyEvent],
    n: int = 10,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Allowed | None = None,
    repeats: bool | None = None,
    limit: int = CANDIDATES,
) -> list[Recommendation]:
    """The `n` best items for a history (oldest event first), fewer where nothing more may be shown.

    Items of the history itself are left out unless `repeats` (None: as the bundle was fitted).
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
    allowed: Allowed | None = None,
    limit: int = CANDIDATES,
) -> list[Recommendation]:
    """The `n` items that go best with one item, as if it were all that a visitor had looked at,
    however popular they are.

    Empty for an item that the bundle does not know.
    """
    if item_id not in bundle.index:
        return []
    related = [
        place
        for place, retriever in enumerate(bundle.retrievers.values())
        if retriever.kind == "item-to-item"
    ]
    found = retrieve(bundle, encode_history(bundle, [Event(item_id)]), limit)
    found = found.select(np.any(found.scores[:, related] > 0, axis=1))
    candidates = filter_candidates(bundle, found, exclude={item_id}, allowed=allowed)
    blend = bundle.blend.only(related)
    return _recommendations(bundle, candidates, n, blend.score(candidates.features), blend)


def rank_items(
    bundle: Bundle, history: Iterable[AnyEvent], item_ids: Iterable[str]
) -> list[Recommendation]:
    """The given items, each once, in the order in which they suit a history. Those that the bundle
    does not know are left out.
    """
    places = {bundle.index[item_id] for item_id in item_ids if item_id in bundle.index}
    encoded = encode_history(bundle, history)
    scored = [retriever.score(encoded) for retriever in bundle.retrievers.values()]
    candidates = _candidates(bundle, scored, np.array(sorted(places), np.int32))
    score = rank(bundle, encoded, candidates, max(1, len(candidates)))
    return _recommendations(bundle, candidates, len(places), score, bundle.blend)


def _union(proposals: Sequence[Indices]) -> Indices:
    """Every item once, ascending. (np.unique hashes first, which takes four times as long for so
    few.)
    """
    items = np.sort(np.concatenate(proposals))
    first = np.ones(len(items), np.bool_)
    np.not_equal(items[1:], items[:-1], out=first[1:])
    return items[first]


def _best(scored: Scored, limit: int) -> Indices:
    if len(scored.item) <= limit:
        return scored.item
    return scored.item[np.argpartition(-scored.score, limit - 1)[:limit]]


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
