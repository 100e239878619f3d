"""The measured reasons of a slate, from the model's ranks without parts of the history.

Each item also has the parts of its score: the retrievers', the ranker's, and the ranker's features.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from slipstream.contracts.reasons import HistoryItem, ItemReason, SlateReasons
from slipstream.models.base import Indices, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import OrderedCandidates
from slipstream.recommender.ranking_features import ranking_features
from slipstream.recommender.stages import AnyEvent, ListQuestion
from slipstream.slates.reasons.causes import ListedRanks, Reranking, listed_ranks
from slipstream.slates.reasons.words import reason_words


class PastItem(NamedTuple):
    """A visitor's events on one item that the model knows.

    `event_type` and `timestamp` (ms) are those of the event with the most `weight`, the latest of
    several. `events` is their number.
    """

    number: int
    item_id: str
    event_type: str
    timestamp: int
    weight: float
    events: int = 1


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


# Items of the history that are left out, the latest ones.
MOST_LEFT_OUT: Final = 20
# Number of an item that the bundle does not know.
_UNKNOWN: Final = -1


def measured_reasons(
    bundle: Bundle,
    history: Sequence[AnyEvent],
    question: ListQuestion,
    listed: Sequence[str],
    *,
    now: int,
    pinned: Collection[str] = (),
    title_of: Callable[[str], str | None] = lambda _: None,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> SlateReasons:
    """The reasons of a slate's items. For a thread: it computes, and mostly without the GIL.

    Args:
        history: Events, oldest first, that the question was made of.
        question: The question that the list answers, of `stages.list_question`.
        deadline: The time, by the clock, at which it should be over.

    Raises:
        IndexError: The question is not of this bundle.
        ValueError: The same, for the question's mask.
    """
    known = past_items(bundle, history)
    numbers = np.array([bundle.index.get(item_id, _UNKNOWN) for item_id in listed], np.int32)
    parts = score_parts(bundle, question, numbers)
    left_out = known[:MOST_LEFT_OUT] if listed else []
    reranking = Reranking(bundle, question, numbers, deadline, clock)
    ranks = listed_ranks(
        reranking, [each.number for each in known], [each.number for each in left_out]
    )
    looked_at = len(ranks[0].without) if ranks else 0
    shown = [_history_item(past, title_of(past.item_id)) for past in left_out[:looked_at]]
    return SlateReasons(
        ranked=reranking.depth,
        history_items=len(known),
        cut_short=reranking.cut_short,
        history=shown,
        items=[
            _item_reason(
                item_id,
                of_item,
                part,
                reason_words(
                    *(item_id, place, of_item, part.source, shown, now), pinned=item_id in pinned
                ),
                shown,
            )
            for place, (item_id, of_item, part) in enumerate(
                zip(listed, ranks, parts, strict=True), 1
            )
        ],
    )


def _history_item(past: PastItem, title: str | None) -> HistoryItem:
    return HistoryItem(
        item_id=past.item_id,
        title=title,
        event_type=past.event_type,
        timestamp=past.timestamp,
        events=past.events,
    )


def _item_reason(
    item_id: str,
    ranks: ListedRanks,
    parts: ScoreParts,
    words: str,
    history: Sequence[HistoryItem],
) -> ItemReason:
    cause = ranks.cause
    return ItemReason(
        item_id=item_id,
        words=words,
        rank=ranks.now,
        score=ranks.score,
        because=[history[place].item_id for place in cause.places] if cause else [],
        rank_without=cause.rank if cause else None,
        rank_without_history=ranks.without_history,
        ranks_without=ranks.without,
        source=parts.source,
        retrievers=parts.retrievers,
        ranker=parts.ranker,
        features=parts.features,
    )


def past_items(bundle: Bundle, history: Iterable[AnyEvent]) -> list[PastItem]:
    """The items of a history, oldest event first, that the model uses; the latest item first.

    An item that the model does not know, or that only has events without weight, changes no list.
    """
    index, weight_of = bundle.index, bundle.event_weights.weight
    found: dict[str, PastItem] = {}
    for item_id, event_type, timestamp, value in reversed(list(history)):
        number = index.get(item_id)
        if number is None or (weight := weight_of(event_type, value)) <= 0:
            continue
        known = found.get(item_id)
        if known is None:
            found[item_id] = PastItem(number, item_id, event_type, timestamp, weight)
        elif weight > known.weight:
            found[item_id] = PastItem(
                number, item_id, event_type, timestamp, weight, known.events + 1
            )
        else:
            found[item_id] = known._replace(events=known.events + 1)
    return list(found.values())


def score_parts(bundle: Bundle, question: ListQuestion, listed: Indices) -> list[ScoreParts]:
    """The parts of each listed item's score. Numbers are negative for an item that the bundle does
    not know.
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
