"""New items among those that a model recommends, and in the histories that it reads.

The model does not know them. A new item's score is the weighted mean of the scores of the known
items that it is most like, so that it compares with the model's probabilities (docs/adr/0044).
"""

from collections.abc import Collection, Sequence
from heapq import merge
from itertools import islice
from typing import Final

import numpy as np

from slipstream.features.visitor import SequenceEvent
from slipstream.models.base import Indices, Mask, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Recommendation
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.model import Model

# Source of a new item in a list.
CONTENT: Final = "content"
# Best items of the model that new ones borrow from. More of them change the first ten no more.
LENDERS: Final = 50
# Known items that stand in for a new one, and latest events that they are looked up for.
STAND_INS: Final = 5
_LATEST: Final = 10
# Items of the history are liked, though the model may not show them again: they lend this many
# times the best score, the k-th latest of them 1 / k of what the latest one does.
_LENT_BY_HISTORY: Final = 2.0
_PARTS: Final = [1 / position for position in range(1, 21)]


def in_known_items(
    history: Sequence[SequenceEvent], model: Model | None, catalog: Catalog
) -> Sequence[SequenceEvent]:
    """The history of a visitor of new items alone, with the nearest known items in their places.

    The history itself where the model knows one of its items, which says more than stand-ins, and
    where nothing is known of the new ones. The nearest item stands last, as the latest event.
    """
    if model is None or any(event.item_id in model.bundle.index for event in history):
        return history
    bundle, space = model.bundle, catalog.space(model)
    if not space.new_items:
        return history
    stand_ins = [
        event._replace(item_id=bundle.item_ids[item])
        for event in history[-_LATEST:]
        if (number := space.number(event.item_id)) is not None
        for item in reversed(space.new_items.nearest(number, STAND_INS))
    ]
    return stand_ins or history


def borrowing(
    lenders: Sequence[Recommendation],
    history: Sequence[SequenceEvent],
    bundle: Bundle,
    space: ItemSpace,
    allowed: Mask,
    exclude: Collection[str],
    most: int,
) -> list[Recommendation]:
    """The new items with the best scores, best first.

    Args:
        lenders: The model's best items, best first.
        history: The history that they were recommended for.
        bundle: The model's bundle.
        space: Item numbers of the model.
        allowed: Mask of the items that may be shown; later numbers may not.
        exclude: Ids of items that are left out.
        most: Number of items.
    """
    if not space.new_items or not lenders:
        return []
    shares = space.new_items.shares
    items = [bundle.index[each.item_id] for each in lenders]
    borrowed = shares.scores(*lent(items, [each.score for each in lenders], history, bundle))
    places = np.flatnonzero(borrowed)
    numbers = shares.numbers[places]
    shown = allowed.take(numbers, mode="clip") & (numbers < len(allowed))
    numbers, borrowed = numbers[shown], borrowed[places[shown]]
    best, size = np.argsort(-borrowed, kind="stable"), most + len(exclude)
    if len(best) > size:  # with those that are equal to the last one
        best = best[: size + np.count_nonzero(borrowed[best[size:]] == borrowed[best[size - 1]])]
    # Of equal ones the lesser id comes first: numbers are as each process met the items.
    new = sorted(
        (-score, item_id)
        for number, score in zip(numbers[best].tolist(), borrowed[best].tolist(), strict=True)
        if (item_id := space.item_id(number)) not in exclude
    )
    return [Recommendation(item_id, -less, CONTENT) for less, item_id in new[:most]]


def lent(
    items: Sequence[int],
    scores: Sequence[float],
    history: Sequence[SequenceEvent],
    bundle: Bundle,
) -> tuple[Indices, Scores]:
    """The known items that lend scores to new ones, and what each lends.

    Args:
        items: The model's best items, best first, at least one.
        scores: Their scores.
        history: The history that they were recommended for. Its latest items lend, too.
        bundle: The model's bundle.

    Returns:
        Item numbers, -1 for an item that lends nothing, and their scores.
    """
    latest = [bundle.index.get(event.item_id, -1) for event in history[: -len(_PARTS) - 1 : -1]]
    parts = _PARTS[: len(latest)]
    whole = _LENT_BY_HISTORY * scores[0] / max(sum(parts), 1)
    return (
        np.array([*items, *latest], np.int32),
        np.array([*scores, *(whole * part for part in parts)], np.float32),
    )


def merged(
    recommended: Sequence[Recommendation], new: Sequence[Recommendation], n: int
) -> Sequence[Recommendation]:
    """The `n` best of two lists that are in descending order of score; of equals, the model's."""
    if not new:
        return recommended[:n]
    return list(islice(merge(recommended, new, key=lambda each: -each.score), n))
