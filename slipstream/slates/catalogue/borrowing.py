"""New items among those that a model recommends, and in the histories that it reads.

The model does not know them; `slipstream.recommender.new_items` scores them.
"""

from collections.abc import Collection, Sequence
from heapq import merge
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream.features.visitor import SequenceEvent
from slipstream.models.base import Mask
from slipstream.recommender.new_items import LATEST, Shares
from slipstream.recommender.stages import RankedList, Recommendation
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.model import Model

# Source of a new item in a list.
CONTENT: Final = "content"


def in_known_items(
    history: Sequence[SequenceEvent], model: Model | None, catalog: Catalog
) -> Sequence[SequenceEvent]:
    """The history of a visitor of new items alone, with known items in their places."""
    if model is None or any(event.item_id in model.bundle.index for event in history):
        return history
    space = catalog.space(model)
    if not space.new_items:
        return history
    numbers = [-1 if (one := space.number(event.item_id)) is None else one for event in history]
    return space.new_items.in_known_items(history, numbers, model.bundle)


def scores_of(
    shares: Shares, lenders: RankedList, history: Sequence[SequenceEvent]
) -> NDArray[np.float64]:
    """The scores of new items for a visitor. Lenders are best first, perhaps without a network that
    failed.
    """
    bundle = lenders.bundle
    latest = [bundle.index.get(event.item_id, -1) for event in reversed(history[-LATEST:])]
    state = lenders.state if bundle.network is shares.network else lenders.state[:0]
    return shares.scores(lenders.items.tolist(), lenders.scores.tolist(), latest, state)


def borrowing(
    lenders: RankedList,
    history: Sequence[SequenceEvent],
    space: ItemSpace,
    allowed: Mask,
    exclude: Collection[str],
    most: int,
) -> list[Recommendation]:
    """The new items with the best scores, best first. Item numbers beyond the mask may not be
    shown.
    """
    if not space.new_items or not lenders:
        return []
    shares = space.new_items.shares
    scores = scores_of(shares, lenders, history)
    places = np.flatnonzero(scores)
    numbers = shares.numbers[places]
    shown = allowed.take(numbers, mode="clip") & (numbers < len(allowed))
    numbers, scores = numbers[shown], scores[places[shown]]
    size = most + len(exclude)
    if len(scores) > size:  # with those that are equal to the last one
        best = scores >= np.partition(scores, -size)[-size]
        numbers, scores = numbers[best], scores[best]
    # Of equal ones the lesser id comes first: numbers are as each process met the items.
    new = sorted(
        (-score, item_id)
        for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        if (item_id := space.item_id(number)) not in exclude
    )
    return [Recommendation(item_id, -less, CONTENT) for less, item_id in new[:most]]


def merged(
    recommended: Sequence[Recommendation], new: Sequence[Recommendation], n: int
) -> Sequence[Recommendation]:
    """The `n` best of two lists that are in descending order of score; of equals, the model's."""
    if not new:
        return recommended[:n]
    return list(islice(merge(recommended, new, key=lambda each: -each.score), n))
