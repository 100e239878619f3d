"""The interfaces of retrievers: the data of a fit, the question, and the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.vocabulary import CONVERSIONS, PURCHASE, RATE, SIGNAL_WEIGHTS

Indices: TypeAlias = NDArray[np.int32]
Scores: TypeAlias = NDArray[np.float32]
# Which items may be proposed, by their index in the catalogue.
Mask: TypeAlias = NDArray[np.bool_]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
# JSON values.
Parameters: TypeAlias = Mapping[str, Any]

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class EventWeights:
    """The weight of each type of event as a sign of taste. Events of weight 0 are left out."""

    by_type: Mapping[str, float] = field(default_factory=lambda: dict(SIGNAL_WEIGHTS))
    # The weight of a type without one of its own.
    otherwise: float = 1.0
    # The rating that counts in full, lower ones in proportion; None: a rating counts in full,
    # whatever its value.
    rating_scale: float | None = None
    # A cart or purchase of this value counts in full, others by the square root of the proportion,
    # between half and double; None: all count in full.
    usual_value: float | None = None

    def weight(self, event_type: str, value: float | None = None) -> float:
        """The weight of one event, never negative."""
        weight = self.by_type.get(event_type, self.otherwise)
        if event_type == RATE and value is not None and self.rating_scale:
            weight *= min(max(value / self.rating_scale, 0.0), 1.0)
        if event_type in CONVERSIONS and value is not None and self.usual_value:
            weight *= min(max(value / self.usual_value, 0.25), 4.0) ** 0.5
        return weight

    def weights(
        self, event_types: Sequence[str], values: Sequence[float | None]
    ) -> Sequence[float]:
        """The weight of each event."""
        if values.count(None) == len(values):
            return list(map(self.by_type.get, event_types, repeat(self.otherwise)))
        return list(map(self.weight, event_types, values))


@dataclass(frozen=True)
class Impressions:
    """Items that were shown, one entry for each place of a list.

    `taken_at` is the time (ms) at which the visitor took the item, `NEVER` if none is recorded.
    """

    item: Indices
    position: Indices
    timestamp: NDArray[np.int64]
    taken_at: NDArray[np.int64]

    @property
    def taken(self) -> NDArray[np.bool_]:
        return self.taken_at < NEVER

    def until(self, timestamp: int) -> "Impressions":
        """The impressions as they were known at a time."""
        kept = self.timestamp <= timestamp
        taken_at = np.where(self.taken_at <= timestamp, self.taken_at, NEVER)
        return Impressions(
            self.item[kept], self.position[kept], self.timestamp[kept], taken_at[kept]
        )


@dataclass(frozen=True)
class InteractionLog:
    """Encoded interactions, sorted by user, then time, then their order in the source.

    All arrays have one entry for each event. `item` is an index into a catalogue of `n_items`,
    `timestamp` is in ms, `weight` > 0. `impressions` are the lists shown in the same time, where
    they were recorded. `basket` marks carts and purchases, `bought` the events of type `bought_by`,
    and `looked` views, or clicks where there are no views; where the source tells types of events.
    """

    user: Indices
    item: Indices
    timestamp: NDArray[np.int64]
    weight: Scores
    n_items: int
    impressions: Impressions | None = None
    basket: Mask | None = None
    bought: Mask | None = None
    looked: Mask | None = None
    bought_by: str = PURCHASE

    def __len__(self) -> int:
        return len(self.item)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "InteractionLog":
        """The events of a mask or of ascending row numbers, and the impressions up to the last.

        Of all events the arrays are views, not copies.
        """
        rows: NDArray[Any] | slice = keep
        if len(keep) == len(self) and (keep.dtype != np.bool_ or keep.all()):
            rows = slice(None)
        timestamp = self.timestamp[rows]
        shown = self.impressions.until(int(timestamp.max(initial=0))) if self.impressions else None

        def part(mask: Mask | None) -> Mask | None:
            return None if mask is None else mask[rows]

        return InteractionLog(
            self.user[rows],
            self.item[rows],
            timestamp,
            self.weight[rows],
            self.n_items,
            shown,
            part(self.basket),
            part(self.bought),
            part(self.looked),
            self.bought_by,
        )


class History(NamedTuple):
    """One visitor's encoded events, oldest first: item indices, weights > 0, and times in ms."""

    item: Indices
    weight: Scores
    timestamp: NDArray[np.int64]


class SoftmaxState(NamedTuple):
    """The state of a visitor's sequence and the logarithm of its softmax's total over the items."""

    vector: Scores
    log_total: np.float32


class SparseScores(NamedTuple):
    """Sparse scores over the catalogue: each item at most once, in ascending order of index.

    `state` lets the same retriever score further items.
    """

    item: Indices
    score: Scores
    state: SoftmaxState | None = None

    def at(self, items: Indices) -> Scores:
        """The scores of `items`; 0 for an item without a score."""
        if not len(self.item):
            return np.zeros(len(items), np.float32)
        if (
            len(self.item) == self.item[-1] + 1 > items.max(initial=-1)
        ):  # every item up to the last one: no need to search
            return self.score[items]
        place = np.minimum(np.searchsorted(self.item, items), len(self.item) - 1)
        return np.where(self.item[place] == items, self.score[place], np.float32(0))

    def best(self, limit: int, allowed: Mask | None = None) -> Indices:
        """The `limit` items of highest score among the allowed ones, in no order.

        Of equal scores, the item that comes first in the catalogue wins.
        """
        item, score = self.item, self.score
        if allowed is not None:
            kept = allowed[item]
            item, score = item[kept], score[kept]
        if len(item) <= limit:
            return item
        return item[np.argsort(-score, kind="stable")[:limit]]


class Retriever(Protocol):
    """A model that proposes items for a history, at a cost that does not grow with the catalogue.

    `kind` names the class in a saved bundle. `logarithmic` says how a score becomes a
    log-probability in the blend: true for shares and counts (log of the score's share), false for
    scores on a linear scale, which may be negative.
    """

    kind: ClassVar[str]

    @property
    def logarithmic(self) -> bool: ...

    def score(self, history: History) -> SparseScores:
        """Scores for the next item; empty where the history says nothing."""
        ...

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:
        """The scores of any `items`, given the answer of `score` for the same history."""
        ...

    def propose(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        """The `limit` best of the allowed items, in no order; None allows all. They are fewer where
        the history says nothing of more. `scored` is the answer of `score`.
        """
        ...

    def arrays(self) -> Arrays:
        """The arrays to save; with `parameters` they suffice for `restore`."""
        ...

    def parameters(self) -> Parameters: ...

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self: ...


class Dense(Protocol):
    """A scorer of the whole catalogue for many histories at once: (histories, items)."""

    @property
    def n_items(self) -> int: ...

    def score_all(self, histories: Sequence[History]) -> Scores: ...
