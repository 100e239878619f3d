"""New items, which a model does not know: their scores, and what stands in for them in a history.

Serving, `evaluate` and the gate score them here, on the scale of the model's probabilities. A new
item borrows: the weighted mean of the scores of the known items that it is most like. The network
scores it, too, from its attributes alone. Its score is twice the geometric mean of both, or the
network's where that is greater (docs/adr/0086).
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from slipstream.features.visitor import SequenceEvent
from slipstream.models.base import Indices, Scores
from slipstream.models.transformer import Transformer
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event

# Most new items of a model; the newest stay.
MOST_NEW_ITEMS: Final = 20_000
# Known items that lend their scores to a new item.
NEIGHBOURS: Final = 10
# Best items of the model that new ones borrow from. More of them change the first ten no more.
LENDERS: Final = 50
# Known items that stand in for a new one in a history, and latest events that have stand-ins.
STAND_INS: Final = 5
_LATEST: Final = 10
# Items of the history are liked, though the model may not show them again: they lend this many
# times the best score, the k-th latest of them 1 / k of what the latest one does.
_LENT_BY_HISTORY: Final = 2.0
LATEST: Final = 20
_PARTS: Final = [1 / position for position in range(1, LATEST + 1)]


E = TypeVar("E", SequenceEvent, Event)


@dataclass(frozen=True)
class Shares:
    """The share of each known item's score that each new item gets.

    One entry for each pair of a known item and a new one.

    Attributes:
        new: Place of the new item in `numbers`.
        shares: The shares; those of a new item sum to at most 1.
        numbers: Item number of each new item.
        vectors: The network's vector of each, (new items, dim).
        network: The network; None where none knows terms.
    """

    known: Indices
    new: Indices
    shares: Scores
    numbers: Indices
    vectors: Scores
    network: Transformer | None

    def of(self, number: int) -> "Shares":
        """The shares that one new item gets; none for any other number."""
        place = np.flatnonzero(self.numbers == number)
        its = np.flatnonzero(np.isin(self.new, place))
        own = self.known[its], np.zeros(len(its), np.int32), self.shares[its]
        return Shares(*own, self.numbers[place], self.vectors[place], self.network)

    def scores(
        self, items: Sequence[int], scores: Sequence[float], latest: Sequence[int], state: Scores
    ) -> NDArray[np.float64]:
        """The score of each new item for a visitor.

        Args:
            items: The model's best items for the visitor, best first. `LENDERS` of them lend.
            latest: Item numbers of the history, the latest first; what is not known lends nothing,
                nor does what is older than `LATEST` events.
            state: The network's state, as in `Lists`; empty or zeros where it has no say.
        """
        if not len(items):
            return np.zeros(len(self.numbers))
        latest = latest[:LATEST]
        parts = _PARTS[: len(latest)]
        whole = _LENT_BY_HISTORY * scores[0] / max(sum(parts), 1)
        lenders = np.array(items[:LENDERS], np.int32)
        borrowed = self.borrowed(
            np.append(lenders, latest).astype(np.int32),
            np.array([*scores[:LENDERS], *(whole * part for part in parts)], np.float32),
        )
        if self.network is None or not state.any():
            return borrowed
        # The part that each would have of the lenders' scores, if the network shared them out.
        theirs = np.logaddexp.reduce(self.network.items.vectors(lenders) @ state)
        own = self.vectors @ state
        said = sum(scores[:LENDERS]) * np.exp(own - np.logaddexp(own, theirs), dtype=np.float64)
        return np.asarray(np.maximum(said, 2 * np.sqrt(borrowed * said)), np.float64)

    def borrowed(self, items: Indices, scores: Scores) -> NDArray[np.float64]:
        """The mean of the scores of known items for each new one; others count as 0."""
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

    Attributes:
        network: The network that tells their vectors; None where none knows terms.
        shares: The new items as requests read them, replaced as a whole.
        revision: A number that grows with each change of `shares`.
    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.content is None:
            raise ValueError("the bundle has no index of its items by content")
        self._index, network = bundle.content, bundle.network
        self.network = network if network is not None and network.knows_terms else None
        self._waiting: dict[int, None] = {}
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._places: dict[int, int] = {}
        self._numbers = np.full(MOST_NEW_ITEMS, -1, np.int32)
        self._known = np.full((MOST_NEW_ITEMS, NEIGHBOURS), -1, np.int32)
        self._shares = np.zeros((MOST_NEW_ITEMS, NEIGHBOURS), np.float32)
        dim = 0 if self.network is None else self.network.items.rows.shape[1]
        self._vectors = np.empty((MOST_NEW_ITEMS, dim), np.float32)
        none = np.empty(0, np.float32)
        self.shares = Shares(_NOTHING, _NOTHING, none, _NOTHING, self._vectors[:0], self.network)
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

        Does nothing while another thread does so. After `budget_s` the rest goes on waiting.
        `attributes_of` takes an item number.
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

    @classmethod
    def of(cls, bundle: Bundle, described: Iterable[Mapping[str, Any]]) -> Self | None:
        """The new items, numbered from the bundle's on; None without an index."""
        if bundle.content is None:
            return None
        new, entries = cls(bundle), dict(enumerate(described, len(bundle.item_ids)))
        for number in entries:
            new.wait(number)
        new.catch_up(entries.__getitem__, np.inf)
        return new

    def stand_ins(self, history: Sequence[int]) -> list[tuple[int, int]]:
        """The known items that stand in for the new ones of a history, oldest first.

        Each of the latest events has its nearest items, the nearest last, as the latest event.
        History and pairs have item numbers, -1 for an unknown item. A pair is a place in the
        history and a known item.
        """
        first = max(0, len(history) - _LATEST)
        return [
            (place, item)
            for place in range(first, len(history))
            for item in reversed(self.nearest(history[place], STAND_INS))
        ]

    def in_known_items(
        self, history: Sequence[E], numbers: Sequence[int], bundle: Bundle
    ) -> Sequence[E]:
        """The history of a visitor of new items alone, with their stand-ins in their places.

        The history itself where the bundle knows one of its items, which says more than stand-ins,
        and where nothing is known of the new ones. Events are oldest first; numbers are -1 for an
        unknown item.
        """
        if any(0 <= number < len(bundle.item_ids) for number in numbers):
            return history
        stand_ins = [
            history[place]._replace(item_id=bundle.item_ids[item])
            for place, item in self.stand_ins(numbers)
        ]
        return stand_ins or history

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
        if self.network is not None:
            self._vectors[place] = self.network.described(attributes)

    def _drop(self, place: int) -> None:
        """Take an item away; the last one moves to its place."""
        last = len(self._places) - 1
        del self._places[int(self._numbers[place])]
        if place != last:
            number = int(self._numbers[last])
            self._numbers[place], self._places[number] = number, place
            for column in (self._known, self._shares, self._vectors):
                column[place] = column[last]
        self._numbers[last] = -1

    def _publish(self) -> None:
        size = len(self._places)
        known = self._known[:size].ravel()
        order = np.argsort(known, kind="stable")
        order = order[np.searchsorted(known[order], 0) :]
        new = (order // NEIGHBOURS).astype(np.int32)
        self.shares = Shares(
            known[order],
            new,
            self._shares[:size].ravel()[order],
            self._numbers[:size].copy(),
            self._vectors[:size].copy(),
            self.network,
        )
        self.revision += 1
