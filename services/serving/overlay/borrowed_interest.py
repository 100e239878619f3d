"""The interest of visitors in a new item, by what it borrows in each one's own list."""

from collections.abc import Sequence

import numpy as np

from services.serving.item_space import ItemSpace
from services.serving.overlay.merging import LENDERS, lent
from slipstream.features.visitor import SequenceEvent
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.interest import Interest, own_lists
from slipstream.recommender.stages import ListQuestion

_NONE = Interest(0.0, None)


def borrowed_interests(
    bundle: Bundle,
    space: ItemSpace,
    questions: Sequence[ListQuestion],
    histories: Sequence[Sequence[SequenceEvent]],
    number: int,
) -> list[Interest]:
    """The interest of several visitors in an item that the model does not know.

    Args:
        bundle: The model's bundle.
        space: Its item numbers.
        questions: The questions of the visitors' own lists, at least one, with the same request.
        histories: The visitors' histories as the model knows them, in the same order.
        number: The item's number.

    Returns:
        For each visitor the score that the item has in lists; 0 where nothing like it is among the
        best of the list or of the history.
    """
    if space.new_items is None:
        return [_NONE] * len(questions)
    shares = space.new_items.shares.of(number)
    found = []
    own = own_lists(bundle, questions)
    for items, scores, history in zip(own.items, own.scores, histories, strict=True):
        listed = scores[items >= 0]
        if not len(listed):
            found.append(_NONE)
            continue
        lenders = min(LENDERS, len(listed))
        lending = lent(items[:lenders].tolist(), listed[:lenders].tolist(), history, bundle)
        score = sum(
            shares.get(item, 0.0) * value
            for item, value in zip(*(column.tolist() for column in lending), strict=True)
        )
        ahead = int(np.count_nonzero(listed >= score))
        behind_all = ahead == len(items)
        found.append(Interest(score, None if behind_all or not score else ahead + 1))
    return found
