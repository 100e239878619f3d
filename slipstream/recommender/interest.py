"""The interest of visitors in one item, compared with the best of their own lists.

Probabilities of different visitors compare only where each is among the items that the visitor
would choose from. So each visitor's own list is made first, as a request would make it, and then
the item is ranked among it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import ListRequest, Lists
from slipstream.recommender.stages import ListQuestion


class Interest(NamedTuple):
    """A visitor's interest in an item.

    `score` is the item's probability among it and the visitor's own list. `place` is its place
    there, from 1; None for one behind the whole list.
    """

    score: float
    place: int | None


def own_lists(bundle: Bundle, questions: Sequence[ListQuestion]) -> Lists:
    """The lists of several visitors, by the same request."""
    return bundle.plan.recommend(
        [question.history for question in questions],
        questions[0].request,
        [question.excluded for question in questions],
    )


def interests(bundle: Bundle, questions: Sequence[ListQuestion], item: int) -> list[Interest]:
    """The interest of several visitors in an item. The questions are of the visitors' own lists, at
    least one, with the same request. `item` is the number in the bundle.
    """
    length = questions[0].request.n
    given = [
        np.union1d(own[own >= 0], [item]).astype(np.int32)
        for own in own_lists(bundle, questions).items
    ]
    found = bundle.plan.recommend(
        [question.history for question in questions],
        ListRequest(length + 1, 0, length + 1, given=True),
        given,
    )
    rows, places = np.nonzero(found.items == item)
    return [
        Interest(score, place + 1 if place < length else None)
        for score, place in zip(found.scores[rows, places].tolist(), places.tolist(), strict=True)
    ]
