"""New items, which a model does not know, and the known items that they are most like."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Indices, Scores
from slipstream.models.content_index import ContentIndex

# Most new items of a model; the newest stay.
MOST_NEW_ITEMS: Final = 20_000
# Known items that lend their scores to a new item.
NEIGHBOURS: Final = 10


@dataclass(frozen=True)
class Shares:
    """The share of each known item's score that each new item gets.

    One entry for each pair of a known item and a new one.

    Attributes:
        known: Known items, ascending.
        new: Place of the new item in `numbers`.
        shares: The shares; those of a new item sum to at most 1.
        numbers: Item number of each new item.
    """

    known: Indices
    new: Indices
    shares: Scores
    numbers: Indices

    def of(self, number: int) -> dict[int, float]:
        """The shares that one new item gets, by known item; none for any other number."""
        its = np.flatnonzero(self.numbers[self.new] == number)
        return dict(zip(self.known[its].tolist(), self.shares[its].tolist(), strict=True))

    def scores(self, items: Indices, scores: Scores) -> NDArray[np.float64]:
        """The score of each new item, given those of known items; others count as 0."""
        begins, ends = np.searchsorted(self.known, (items, items + 1))
        lengths = ends - begins
        whole = np.cumsum(lengths)
        pairs = np.arange(whole[-1] if len(whole) else 0)
        pairs += np.repeat(begins - (whole - lengths), lengths)
        votes = self.shares[pairs] * np.repeat(scores, lengths)
        return np.asarray(np.bincount(self.new[pairs], votes, len(self.numbers)), np.float64)


_NOTHING: Final = np.empty(0, np.int32)


class NewItems:
    """The newest items that a model does not know. Filled by one thread at a time, read by others.

    Args:
        index: The model's items by content.

    Attributes:
        shares: The new items as requests read them, replaced as a whole.
        revision: A number that grows with each change of `shares`.
    """

    def __init__(self, index: ContentIndex) -> None:
        self._index = index
        self._waiting: dict[int, None] = {}
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._places: dict[int, int] = {}
        self._numbers = np.full(MOST_NEW_ITEMS, -1, np.int32)
        self._known = np.full((MOST_NEW_ITEMS, NEIGHBOURS), -1, np.int32)
        self._shares = np.zeros((MOST_NEW_ITEMS, NEIGHBOURS), np.float32)
        self.shares = Shares(_NOTHING, _NOTHING, np.empty(0, np.float32), _NOTHING)
        self.revision = 0

    def __len__(self) -> int:
        return len(self.shares.numbers)

    @property
    def waiting(self) -> int:
        """The number of items that are not compared yet, or not as they are now."""
        return len(self._waiting)

    def wait(self, number: int) -> None:
        """Note that an item is new, or has other attributes. Of too many, the earliest go."""
        with self._lock:
            self._waiting.pop(number, None)
            self._waiting[number] = None
            if len(self._waiting) > MOST_NEW_ITEMS:
                del self._waiting[next(iter(self._waiting))]

    def catch_up(self, attributes_of: Callable[[int], Mapping[str, Any]], budget_s: float) -> None:
        """Compare the items that wait with the known ones, the latest first.

        Does nothing while another thread does so.

        Args:
            attributes_of: Returns the attributes of an item number.
            budget_s: Time after which the rest goes on waiting.
        """
        if not self._waiting or not self._filling.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + budget_s
            while (number := self._next()) is not None:
                self._put(number, attributes_of(number))
                if time.monotonic() > until:
                    break
            self._publish()
        finally:
            self._filling.release()

    def nearest(self, number: int, most: int) -> list[int]:
        """The known items that a new item is most like, best first; none for any other number."""
        place = self._places.get(number)
        if place is None:
            return []
        return [item for item in self._known[place, :most].tolist() if item >= 0]

    def _next(self) -> int | None:
        with self._lock:
            return self._waiting.popitem()[0] if self._waiting else None

    def _put(self, number: int, attributes: Mapping[str, Any]) -> None:
        near = self._index.neighbours(attributes, NEIGHBOURS)
        place = self._places.get(number)
        if not len(near.items):
            if place is not None:
                self._drop(place)
            return
        if place is None:
            place = len(self._places)
            if place == MOST_NEW_ITEMS:
                place = int(self._numbers.argmin())
                if self._numbers[place] > number:
                    return
                del self._places[int(self._numbers[place])]
            self._places[number] = place
            self._numbers[place] = number
        self._known[place] = -1
        self._shares[place] = 0
        self._known[place, : len(near.items)] = near.items
        self._shares[place, : len(near.items)] = near.likeness / near.likeness.sum()

    def _drop(self, place: int) -> None:
        """Take an item away; the last one moves to its place."""
        last = len(self._places) - 1
        del self._places[int(self._numbers[place])]
        if place != last:
            number = int(self._numbers[last])
            self._numbers[place], self._places[number] = number, place
            self._known[place], self._shares[place] = self._known[last], self._shares[last]
        self._numbers[last] = -1

    def _publish(self) -> None:
        size = len(self._places)
        known = self._known[:size].ravel()
        order = np.argsort(known, kind="stable")
        order = order[np.searchsorted(known[order], 0) :]
        new = (order // NEIGHBOURS).astype(np.int32)
        self.shares = Shares(
            known[order], new, self._shares[:size].ravel()[order], self._numbers[:size].copy()
        )
        self.revision += 1
