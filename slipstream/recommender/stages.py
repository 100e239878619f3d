"""The stages of a recommendation: candidates, filtering, ranking.

The REST endpoint and offline evaluation both run these, in the kernels that a bundle's plan calls.

A request costs the events of the history times the neighbours of each, whatever the size of the
catalogue, and the network's comparison of one vector with the items' vectors: with all of them up
to 20,000 items, with the likeliest clusters beyond (docs/adr/0048).
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, overload

import numpy as np

from slipstream.features.request import GAP_MS
from slipstream.models.base import History, Indices, Mask, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import ListRequest, Lists

# Items that each retriever proposes.
CANDIDATES = 250
# Best candidates of the blend that the ranker orders, unless more items are requested.
RANKED = 200

_NO_HISTORY: Final = History(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int64))

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


class RankedList(Sequence[Recommendation]):
    """A model's list, best first. Its items are named when they are read.

    Rules arrange some two hundred candidates by number, and name the few that they show. `items`
    are places in the bundle's catalogue, `sources` among its retrievers. By `state`, as in `Lists`,
    new items have scores.
    """

    def __init__(
        self, bundle: Bundle, items: Indices, scores: Scores, sources: Indices, state: Scores
    ) -> None:
        self.bundle, self.items, self.scores, self._sources = bundle, items, scores, sources
        self.state = state

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Recommendation]:
        return map(
            Recommendation,
            map(self.bundle.item_ids.__getitem__, self.items.tolist()),
            self.scores.tolist(),
            map(list(self.bundle.retrievers).__getitem__, self._sources.tolist()),
        )

    def taken(self, places: slice | Sequence[int]) -> "RankedList":
        """The items at these places, in this order."""
        where = places if isinstance(places, slice) else np.array(places, np.intp)
        columns = (self.items[where], self.scores[where], self._sources[where])
        return RankedList(self.bundle, *columns, self.state)

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...
    @overload
    def __getitem__(self, place: slice) -> "RankedList": ...
    def __getitem__(self, place: int | slice) -> "Recommendation | RankedList":
        if isinstance(place, slice):
            return self.taken(place)
        return Recommendation(
            self.bundle.item_ids[self.items[place].item()],
            self.scores[place].item(),
            list(self.bundle.retrievers)[self._sources[place].item()],
        )


class ListQuestion(NamedTuple):
    """A history as a bundle knows it, the items that may not be shown, and the requested list."""

    history: History
    excluded: Indices
    request: ListRequest


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


def encode_history(bundle: Bundle, history: Iterable[AnyEvent]) -> History:
    """The events that have a weight above 0 and an item that the bundle knows."""
    return _encoded(bundle, history)[0]


def _encoded(bundle: Bundle, history: Iterable[AnyEvent]) -> tuple[History, Sequence[int | None]]:
    """A history as `encode_history` returns it, and the place of each event's item, or None."""
    columns = list(zip(*history, strict=True))
    if not columns:
        return _NO_HISTORY, ()
    items, types, times, values = columns
    places = list(map(bundle.index.get, items))
    weights = bundle.event_weights.weights(types, values)
    known: Sequence[Sequence[Any]] = (places, weights, times)
    if None in places or min(weights) <= 0:
        rows = zip(places, weights, times, strict=True)
        known = list(zip(*(row for row in rows if row[0] is not None and row[1] > 0), strict=True))
        if not known:
            return _NO_HISTORY, places
    place, weight, time = known
    encoded = History(
        np.array(place, np.int32), np.array(weight, np.float32), np.array(time, np.int64)
    )
    return encoded, places


def rank(bundle: Bundle, history: History, candidates: Candidates, depth: int = RANKED) -> Scores:
    """The score of each candidate, a log-probability up to a constant; higher is better.

    A ranker orders the blend's `depth` best candidates only, and the others are -inf. A bundle
    without a ranker gives every candidate its score by the blend.
    """
    score = bundle.blend.score(candidates.features)
    if bundle.ranking is None or not len(candidates):
        return score
    best = np.sort(np.argsort(-score, kind="stable")[:depth])
    corrected = np.full_like(score, -np.inf)
    corrected[best] = score[best] + bundle.ranking.correct(
        history, candidates.items[best], candidates.features[best]
    )
    return corrected


def unwanted(bundle: Bundle, history: History) -> Indices:
    """The items that are not shown after this history: its own, unless the bundle repeats items."""
    return np.empty(0, np.int32) if bundle.repeats else np.unique(history.item)


class Resting(NamedTuple):
    """The ids of items that their visitor is unlikely to want now: bought, and just looked at."""

    bought: set[str]
    looked_at: set[str]


def resting(bundle: Bundle, history: Sequence[AnyEvent], now_ms: int) -> Resting:
    """The items of a history that rest at a time, by what the bundle learned of repurchases."""
    learned = bundle.repurchases
    if learned is None or not history:
        return Resting(set(), set())
    item, _, time, _ = history[-1]
    looked_at = {item} if learned.looks_rest and now_ms - time < GAP_MS else set()
    # Few events are purchases: arrays would take longer.
    bought = [(item, now_ms - time) for item, kind, time, _ in history if kind == learned.bought_by]
    places = bundle.index
    return Resting(
        {item for item, age in bought if age < learned.pause_of(places.get(item))}, looked_at
    )


def shortlist(
    bundle: Bundle, history: History, *, exclude: Indices, limit: int = CANDIDATES
) -> Candidates:
    """The candidates of a history, which are each retriever's `limit` best and some more. `limit`
    counts what each retriever proposes, plus one for each of `exclude`.
    """
    return Candidates(*bundle.plan.candidates(history, ListRequest(0, limit, 0), exclude)[:4])


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
        allowed: Mask of the items that may be shown, which may be longer than the bundle's
            catalogue; None allows all.
        repeats: Whether items of the history may be shown; None leaves it to the bundle.
        limit: Allowed items that each retriever proposes, at least `n`, plus one for each that is
            excluded. Scores do not depend on the mask.
    """
    question = list_question(
        bundle, history, n, exclude=exclude, allowed=allowed, repeats=repeats, limit=limit
    )
    return list(answers(bundle, [question])[0])


def list_question(
    bundle: Bundle,
    history: Iterable[AnyEvent],
    n: int = 10,
    *,
    exclude: Set[str] = frozenset(),
    allowed: Mask | None = None,
    repeats: bool | None = None,
    limit: int = CANDIDATES,
) -> ListQuestion:
    """The question that `recommend` puts to a bundle's plan; the arguments are the same."""
    encoded, places = _encoded(bundle, history)
    hidden = item_numbers(bundle, exclude)
    if not (bundle.repeats if repeats is None else repeats):
        hidden.update(place for place in places if place is not None)
    return ListQuestion(
        encoded,
        np.fromiter(hidden, np.int32, len(hidden)),
        list_request(n, allowed, limit),
    )


def list_request(n: int, allowed: Mask | None = None, limit: int = CANDIDATES) -> ListRequest:
    """What `recommend` asks of a bundle's plan; the arguments are the same."""
    return ListRequest(n, max(limit, n), max(n, RANKED), allowed)


def answers(bundle: Bundle, questions: Sequence[ListQuestion]) -> list[RankedList]:
    """The lists of several questions with the same request, by one call of the kernels."""
    found = bundle.plan.recommend(
        [question.history for question in questions],
        questions[0].request,
        [question.excluded for question in questions],
    )
    return _ranked_lists(bundle, found)


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
    history = encode_history(bundle, [Event(item_id)])
    request = ListRequest(n, max(limit, n), 0, allowed, only=related)
    found = bundle.plan.recommend([history], request, [history.item])
    return list(_ranked_lists(bundle, found)[0])


def bought_together(bundle: Bundle, item_ids: Iterable[str]) -> list[tuple[str, float]]:
    """The items that go into one basket with these, with their strength, strongest first.

    The given items are not among them. Empty where the bundle knows no basket with one of them.
    """
    given = np.array(sorted(item_numbers(bundle, item_ids)), np.int32)
    if bundle.baskets is None or not len(given):
        return []
    ones = np.ones(len(given), np.float32)
    found = bundle.baskets.score(History(given, ones, np.zeros(len(given), np.int64)))
    kept = ~np.isin(found.item, given)
    item, strength = found.item[kept], found.score[kept]
    best = np.argsort(-strength, kind="stable")
    return [
        (bundle.item_ids[number], score)
        for number, score in zip(item[best].tolist(), strength[best].tolist(), strict=True)
    ]


def rank_items(
    bundle: Bundle, history: Iterable[AnyEvent], item_ids: Iterable[str]
) -> list[Recommendation]:
    """The given items that the bundle knows, each once, best for this history first."""
    given = np.array(sorted(item_numbers(bundle, item_ids)), np.int32)
    request = ListRequest(len(given), 0, max(1, len(given)), given=True)
    found = bundle.plan.recommend([encode_history(bundle, history)], request, [given])
    return list(_ranked_lists(bundle, found)[0])


def item_numbers(bundle: Bundle, item_ids: Iterable[str]) -> set[int]:
    """The places in the catalogue of those ids that the bundle knows."""
    found = set(map(bundle.index.get, item_ids))
    found.discard(None)
    return found  # type: ignore[return-value]


def _ranked_lists(bundle: Bundle, found: Lists) -> list[RankedList]:
    lengths = np.count_nonzero(found.items >= 0, axis=1).tolist()
    rows = zip(lengths, *found, strict=True)
    return [
        RankedList(bundle, items[:n], scores[:n], sources[:n], state)
        for n, items, scores, sources, state in rows
    ]
