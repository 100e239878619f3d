"""The items of a history that put an item where it is in a list, found by leaving them out.

Where a single item decides, it is the cause. Where it takes several, as when a visitor looked at
two of a kind, those with the most effect are left out together, as in K. H. Tran, A. Ghazimatin, R.
Saha Roy, "Counterfactual Explanations for Neural Recommenders", SIGIR 2021.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from services.serving.reasons.reranking import Reranking
from slipstream.models.base import Scores

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


class ListedRanks(NamedTuple):
    """The ranks of one listed item.

    Attributes:
        now: With the whole history.
        score: Probability among the candidates, 0 where there is no rank.
        without_history: Without any event.
        without: Without each item of the history that was left out alone.
        cause: The items that decide; None where none were found.
        depth: The last rank that was looked at.
    """

    now: Rank
    score: float
    without_history: Rank
    without: list[Rank]
    cause: Cause | None
    depth: int

    def far_from(self, rank: Rank) -> bool:
        """Whether a rank is so far below the rank now that what was left out decides."""
        return self.now is not None and (rank or self.depth + 1) > DECISIVE * self.now


def listed_ranks(
    reranking: Reranking, history: Sequence[int], left_out: Sequence[int]
) -> list[ListedRanks]:
    """The ranks and the cause of each listed item.

    Makes at most two lists, one for each of `left_out`, and `MOST_GROUPS` for each size of group.

    Args:
        reranking: Makes the lists.
        history: Numbers of all items of the history.
        left_out: Numbers of those that are left out alone, the latest first.
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
    """The item without which the rank is lowest, the latest of several, where it decides."""
    if not ranks.without:
        return None
    place = max(range(len(ranks.without)), key=lambda each: ranks.without[each] or ranks.depth + 1)
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

    Args:
        reranking: Makes the lists.
        listed: Gets the causes that are found.
        left_out: Numbers of the items that were left out alone.
        scores: Scores without each of them, (left out, listed): the lower, the more effect it has.
        size: Number of items in a group.
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
