"""The items of a history that put an item where it is in a list, found by leaving them out.

Where a single item decides, it is the cause. Where it takes several, as when a visitor looked at
two of a kind, those with the most effect are left out together, as in K. H. Tran, A. Ghazimatin, R.
Saha Roy, "Counterfactual Explanations for Neural Recommenders", SIGIR 2021.

Lists made again without items of the history: a counterfactual that the model itself answers.

Only the history changes. Exclusions and mask stay those of the request, so that an item that is
left out of the history does not become a candidate.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import History, Indices, Scores
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion


class Reranking:
    """The ranks and scores of listed items in lists that are made without parts of the history.

    Args:
        listed: Numbers of the listed items; negative for one that the bundle does not know.
        deadline: The time, by the clock, at which it should be over.

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


# What was left out decides where the rank without it is more than so many times the rank now: 1
# becomes 3, 10 becomes 21. What is less comes from small moves of the items around.
DECISIVE: Final = 2
# Most items that are one cause.
MOST_TOGETHER: Final = 3
# Most groups of each size that are left out.
MOST_GROUPS: Final = 20

# A rank from 1; None below the last one that is looked at.
Rank = int | None


class Cause(NamedTuple):
    """Items of the history, by place, and the rank of a listed item without all of them."""

    places: tuple[int, ...]
    rank: Rank


def history_decides(now: int, without_history: Rank) -> bool:
    """Whether an item's rank owes itself to the history: it is far worse, or none, without it."""
    return without_history is None or without_history > DECISIVE * now


class ListedRanks(NamedTuple):
    """The ranks of one listed item.

    Attributes:
        score: Probability among the candidates, 0 where there is no rank.
        without_history: Without any event.
        without: Without each item of the history that was left out alone.
        cause: The items that decide; None where none were found.
    """

    now: Rank
    score: float
    without_history: Rank
    without: list[Rank]
    cause: Cause | None
    depth: int

    @property
    def strongest(self) -> int | None:
        """The place of the item of the history without which the rank is lowest, the latest of
        several; None where it is no lower without any of them.
        """
        below = self.depth + 1
        ranks = [rank or below for rank in self.without]
        lowest = max(ranks, default=0)
        return ranks.index(lowest) if lowest > (self.now or below) else None

    def far_from(self, rank: Rank) -> bool:
        """Whether a rank is so far below the rank now that what was left out decides."""
        return self.now is not None and (rank or self.depth + 1) > DECISIVE * self.now


def listed_ranks(
    reranking: Reranking, history: Sequence[int], left_out: Sequence[int]
) -> list[ListedRanks]:
    """The ranks and the cause of each listed item.

    Makes at most two lists, one for each of `left_out`, and `MOST_GROUPS` for each size of group.
    `left_out` are left out alone, the latest first.
    """
    base, base_scores = reranking.without([(), history])
    alone, scores = reranking.without([(number,) for number in left_out])
    listed = [
        ListedRanks(
            int(base[0, column]) or None,
            float(base_scores[0, column]),
            int(base[1, column]) or None,
            [rank or None for rank in alone[:, column].tolist()],
            None,
            reranking.depth,
        )
        for column in range(base.shape[1])
    ]
    listed = [each._replace(cause=_single(each)) for each in listed]
    for size in range(2, min(MOST_TOGETHER, len(alone)) + 1):
        _seek_groups(reranking, listed, left_out, scores, size)
    return listed


def _single(ranks: ListedRanks) -> Cause | None:
    """The strongest item, where it decides alone."""
    if (place := ranks.strongest) is None:
        return None
    rank = ranks.without[place]
    return Cause((place,), rank) if ranks.far_from(rank) else None


def _seek_groups(
    reranking: Reranking,
    listed: list[ListedRanks],
    left_out: Sequence[int],
    scores: Scores,
    size: int,
) -> None:
    """Leave out so many items together, for each listed item that only its history decides yet.
    `scores` are those without each item, (left out, listed): the lower, the more effect it has.
    """
    group_of: dict[int, tuple[int, ...]] = {}
    for column, ranks in enumerate(listed):
        if ranks.cause is None and ranks.far_from(ranks.without_history):
            strongest = np.argsort(scores[:, column], kind="stable")[:size]
            group_of[column] = tuple(sorted(strongest.tolist()))
    groups = list(dict.fromkeys(group_of.values()))[:MOST_GROUPS]
    found, _ = reranking.without([[left_out[place] for place in group] for group in groups])
    row_of = {group: row for row, group in enumerate(groups[: len(found)])}
    for column, group in group_of.items():
        if (row := row_of.get(group)) is not None:
            rank = int(found[row, column]) or None
            if listed[column].far_from(rank):
                listed[column] = listed[column]._replace(cause=Cause(group, rank))


# Lists of one call of the kernels. The clock is read between two calls.
LISTS: Final = 4


def _without(history: History, items: Collection[int]) -> History:
    if not items:
        return history
    kept = ~np.isin(history.item, list(items))
    return History(history.item[kept], history.weight[kept], history.timestamp[kept])
