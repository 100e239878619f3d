"""Lists made again without items of the history: a counterfactual that the model itself answers.

Only the history changes. Exclusions and mask stay those of the request, so that an item that is
left out of the history does not become a candidate.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import History, Indices
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion

# Lists of one call of the kernels. The clock is read between two calls.
LISTS: Final = 4


class Reranking:
    """The ranks and scores of listed items in lists that are made without parts of the history.

    Args:
        bundle: The bundle.
        question: The question that the list answers.
        listed: Numbers of the listed items; negative for one that the bundle does not know.
        deadline: The time, by the clock, at which it should be over.
        clock: Returns seconds of a monotonic clock.

    Attributes:
        depth: The last rank that is looked at: the last one that the ranker orders.
        cut_short: Whether lists were not made since time was over.
    """

    def __init__(
        self,
        bundle: Bundle,
        question: ListQuestion,
        listed: Indices,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle, self._question, self._listed = bundle, question, listed
        self._deadline, self._clock = deadline, clock
        self._of_a_list: float | None = None
        self.depth = max(question.request.n, question.request.depth)
        self.cut_short = False

    def without(
        self, groups: Sequence[Collection[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ranks and scores without each group of items, each (groups, listed).

        They are of the first groups only, where the next call would end after the deadline. The
        first call of all is made in any case. Ranks count from 1, and 0 is one below `depth`, with
        score 0.
        """
        shape = (len(groups), len(self._listed))
        ranks, scores = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        for begin in range(0, len(groups), LISTS):
            portion = groups[begin : begin + LISTS]
            begun = self._clock()
            if (
                self._of_a_list is not None
                and begun + self._of_a_list * len(portion) > self._deadline
            ):
                self.cut_short = True
                return ranks[:begin], scores[:begin]
            self._ask(portion, ranks[begin:], scores[begin:])
            self._of_a_list = (self._clock() - begun) / len(portion)
        return ranks, scores

    def _ask(
        self,
        groups: Sequence[Collection[int]],
        ranks: NDArray[np.int64],
        scores: NDArray[np.float32],
    ) -> None:
        history = self._question.history
        found = self._bundle.plan.recommend(
            [_without(history, group) for group in groups],
            self._question.request._replace(n=self.depth),
            [self._question.excluded] * len(groups),
        )
        match = (found.items[:, :, None] == self._listed) & (self._listed >= 0)
        rows, places, columns = np.nonzero(match)
        ranks[rows, columns] = places + 1
        scores[rows, columns] = found.scores[rows, places]


def _without(history: History, items: Collection[int]) -> History:
    if not items:
        return history
    kept = ~np.isin(history.item, list(items))
    return History(history.item[kept], history.weight[kept], history.timestamp[kept])
