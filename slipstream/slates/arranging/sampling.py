"""Sampled orders: lists with drawn places, with the probability of each item at its place.

At each place that no pin has, the k-th best of the candidates that are left comes with a
probability proportional to 1 / k ** `STEEPNESS`. Fligner & Verducci, "Multistage ranking models"
(JASA 83, 1988) name this family. Ranks decide, not scores: those of different models do not
compare, and a probability that ranks decide has a floor. An off-policy estimate divides by it.

Rules are obeyed before: the candidates are one long list that was arranged within groups and caps,
so that each part of it keeps within them, too. Tiers are used up one after the other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from slipstream.slates.arranging.shares import draws

# Of 200 candidates, the best one comes first in 61 % of the lists, and the last one in 0.0015 %.
# Less loses more clicks, more needs more slates (docs/measurements/price.md).
STEEPNESS: Final = 2.0
# Tables of probabilities that are kept: one for each number of candidates and places.
_KEPT: Final = 256

T = TypeVar("T")
Odds = NDArray[np.float64]


class Frame(NamedTuple):
    """The candidates of a sampled list, by the order that they have without chance.

    Attributes:
        slots: For each place of the list its pinned candidate, -1 for one that is drawn.
        ranked: The candidates that are drawn, best first.
        tiers: How many of them are of each tier, one after the other.
    """

    slots: Sequence[int]
    ranked: Sequence[int]
    tiers: Sequence[int]

    @classmethod
    def of(cls, listed: Sequence[int], tiers: Sequence[int], pinned: Sequence[int]) -> "Frame":
        """The frame of a long list. Tiers ascend but for pinned candidates. `pinned` has one for
        each place, -1 for one that is drawn.
        """
        fixed = {row for row in pinned if row >= 0}
        rest = [(row, tier) for row, tier in zip(listed, tiers, strict=True) if row not in fixed]
        left, slots = len(rest), list[int]()
        for row in pinned:
            if row < 0 and not left:
                continue  # what is behind moves up
            left -= row < 0
            slots.append(row)
        sizes = [tier for _, tier in rest]
        return cls(
            slots, [row for row, _ in rest], [sizes.count(tier) for tier in dict.fromkeys(sizes)]
        )

    def of_ids(self, item_id: Callable[[int], str]) -> "ItemFrame":
        """The frame by items' ids."""
        return ItemFrame(
            [item_id(row) if row >= 0 else "" for row in self.slots],
            [item_id(row) for row in self.ranked],
            self.tiers,
        )


class ItemFrame(NamedTuple):
    """A `Frame` by items' ids; the id of a place that is drawn is empty."""

    slots: Sequence[str]
    ranked: Sequence[str]
    tiers: Sequence[int]

    def marginal(self, number: Callable[[str], int], width: int) -> Odds:
        """The probability of each item at each place, whatever stands before it. (places, columns):
        each row sums to 1. `number` returns the column of an item.
        """
        odds = np.zeros((len(self.slots), width))
        columns = np.array([number(item_id) for item_id in self.ranked], np.int64)
        drawn = [place for place, item_id in enumerate(self.slots) if not item_id]
        begin = taken = 0
        for size in self.tiers:
            places = drawn[taken : taken + size]
            of_tier = columns[begin : begin + size]
            if places:
                odds[np.array(places)[:, None], of_tier] = by_draw(size, len(places))
            begin, taken = begin + size, taken + len(places)
        for place, item_id in enumerate(self.slots):
            if item_id:
                odds[place, number(item_id)] = 1.0
        return odds

    def conditional(self, shown: Sequence[str], number: Callable[[str], int], width: int) -> Odds:
        """The probability of each item at each place, given the items that stand before. (places,
        columns): a row sums to 1, or to 0 where no candidate is left. Items of `shown` that are no
        candidates take none away.
        """
        odds = np.zeros((len(self.slots), width))
        left, bounds = [number(item_id) for item_id in self.ranked], list(self.tiers)
        tier_of = dict(zip(left, np.repeat(np.arange(len(bounds)), bounds).tolist(), strict=True))
        for place, pinned in enumerate(self.slots):
            if pinned:
                odds[place, number(pinned)] = 1.0
            else:
                size = next((size for size in bounds if size), 0)
                odds[place, left[:size]] = odds_of(size)
            if place < len(shown):
                column = number(shown[place])
                if column in tier_of:
                    left.remove(column)
                    bounds[tier_of.pop(column)] -= 1
        return odds


def is_sampled(seed: str, share: float) -> bool:
    """Whether the order of the list with this seed is drawn; so for a `share` of all seeds."""
    return share > 0 and bool(draws(f"{seed}:sampled", 1)[0, 0] < share)


def sampled(frame: Frame, seed: str) -> tuple[list[int], list[float]]:
    """A list that is drawn, and the probability of each candidate, given those before it. The same
    seed, the recommendation's id, draws the same list.
    """
    chance = draws(f"{seed}:order", len(frame.slots))[:, 0]
    left, sizes = list(frame.ranked), [size for size in frame.tiers if size]
    rows, propensities = list[int](), list[float]()
    for row, number in zip(frame.slots, chance, strict=True):
        share = 1.0
        if row < 0:
            odds = odds_of(sizes[0])
            rank = min(int(np.searchsorted(odds.cumsum(), number, "right")), sizes[0] - 1)
            share, row = float(odds[rank]), left.pop(rank)
            sizes[0] -= 1
            if not sizes[0]:
                sizes.pop(0)
        rows.append(row)
        propensities.append(share)
    return rows, propensities


@lru_cache(maxsize=_KEPT)
def odds_of(size: int) -> Odds:
    """The probability of each of `size` candidates to be drawn next, best first; not written to."""
    weights = np.arange(1.0, size + 1) ** -STEEPNESS
    return weights / weights.sum() if size else weights


@lru_cache(maxsize=_KEPT)
def by_draw(size: int, count: int) -> Odds:
    """The probability of each of `size` candidates to come at each of `count` draws.

    Exact: whether a candidate comes depends on how many better ones are left, and on nothing else.

    Returns:
        (count, size); not written to.
    """
    odds = np.empty((count, size))
    # The probability that the candidate of a row is left, with so many better ones.
    state = np.eye(size)
    for draw in range(count):
        each = odds_of(size - draw)
        odds[draw] = state @ each
        better = np.concatenate(([0.0], each.cumsum()))
        stays = state * (1 - better[1:])
        falls = state * better[:-1]
        state = (stays[:, :-1] + falls[:, 1:]) if size - draw > 1 else np.empty((size, 0))
    return odds
