"""Session k-nearest-neighbours: the continuations of similar visits, by an inverted index.

B. Kersbergen, O. Sprangers, S. Schelter, "Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale", SIGMOD 2022 (VMIS-kNN: only the most recent visits of each item are kept); D.
Garg et al., "Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN", SIGIR
2019 (three decays: of the items of the visit, of a visit's age, and of the distance between shared
and recommended items).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.splits import history_starts
from slipstream.models.base import (
    Arrays,
    History,
    Indices,
    InteractionLog,
    Mask,
    Parameters,
    Scores,
    SparseScores,
)

# A longer history is cut into visits of this length: its ends have little to do with each other.
LONGEST_VISIT = 30


@dataclass(frozen=True)
class SessionsParameters:
    # The number of most similar visits that vote.
    neighbours: int = 200
    # The number of latest visits with an item that are compared.
    recent: int = 500
    # The number of latest events of a history that are compared.
    max_events: int = 10
    # Weight of the item before the latest; the one before has its square, and so on.
    position_decay: float = 0.7
    # The same from the shared item of a neighbour to the items around it.
    distance_decay: float = 0.7
    # Weight of items before the shared item, relative to those after it.
    backward: float = 0.5
    # A visit's similarity is divided by its length to this power.
    length_exponent: float = 0.5
    # A vote counts (share of visits with the item, of which `recent` are counted at most) **
    # -rarity.
    rarity: float = 0.2
    # Half-life of a visit's vote, as a share of all visits; None: age does not count.
    half_life: float | None = None


@dataclass(frozen=True)
class Sessions:
    """The index of visits.

    Attributes:
        items: The items of one visit after the other, the latest visits last.
        ends: The end of each visit in `items`.
        visits: The visits with one item after the other.
        places: The places in `items` of these occurrences.
        item_ends: The end of each item in `visits` and `places`.
    """

    items: Indices
    ends: NDArray[np.int64]
    visits: Indices
    places: NDArray[np.int64]
    item_ends: NDArray[np.int64]
    own: SessionsParameters

    kind: ClassVar[str] = "sessions"
    logarithmic: ClassVar[bool] = True

    @property
    def n_items(self) -> int:
        return len(self.item_ends)

    def score(self, history: History) -> SparseScores:
        neighbours = self._neighbours(history)
        if neighbours is None:
            return SparseScores(np.empty(0, np.int32), np.empty(0, np.float32))
        visits, shared, similarity = neighbours
        end = self.ends[visits]
        length = end - self._begin(visits)
        voter = np.repeat(np.arange(len(visits)), length)
        place = np.arange(len(voter)) + np.repeat(end - np.cumsum(length), length)
        distance = place - shared[voter]
        direction = np.where(distance > 0, 1.0, np.where(distance < 0, self.own.backward, 0.0))
        votes = similarity[voter] * self.own.distance_decay ** np.abs(distance) * direction
        found, where = np.unique(self.items[place], return_inverse=True)
        total = np.asarray(np.bincount(where, votes), np.float64)
        if self.own.rarity:
            begin = np.where(found > 0, self.item_ends[found - 1], 0)
            total *= ((self.item_ends[found] - begin) / len(self.ends)) ** -self.own.rarity
        voted = total > 0
        return SparseScores(found[voted].astype(np.int32), total[voted].astype(np.float32))

    def score_all(self, histories: Sequence[History]) -> Scores:
        """The `score` of many histories, dense (histories, items)."""
        scores = np.zeros((len(histories), self.n_items), np.float32)
        for row, history in enumerate(histories):
            found = self.score(history)
            scores[row, found.item] = found.score
        return scores

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:
        return scored.at(items)

    def propose(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        return scored.best(limit, allowed)

    def _neighbours(
        self, history: History
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]] | None:
        """The most similar visits, the place of each one's shared item, and the similarities.

        The shared item is the one that is latest in the history.
        """
        item = np.array(
            list(dict.fromkeys(history.item[::-1][: self.own.max_events].tolist())), np.int64
        )
        end = self.item_ends[item]
        begin = np.maximum(np.where(item > 0, self.item_ends[item - 1], 0), end - self.own.recent)
        length = end - begin
        if not length.any():
            return None
        entries = np.arange(length.sum()) + np.repeat(end - np.cumsum(length), length)
        weights = np.repeat(self.own.position_decay ** np.arange(len(item)), length)
        visits, first, where = np.unique(
            self.visits[entries], return_index=True, return_inverse=True
        )
        similarity = np.asarray(np.bincount(where, weights), np.float64)
        if self.own.length_exponent:
            similarity /= (self.ends[visits] - self._begin(visits)) ** self.own.length_exponent
        if self.own.half_life is not None:
            similarity *= np.exp2((visits - len(self.ends)) / (self.own.half_life * len(self.ends)))
        if len(visits) > self.own.neighbours:
            # Of equally similar visits the latest ones.
            best = np.lexsort((-visits, -similarity.astype(np.float32)))[: self.own.neighbours]
            visits, first, similarity = visits[best], first[best], similarity[best]
        return visits.astype(np.int64), self.places[entries[first]], similarity

    def _begin(self, visits: NDArray[Any]) -> NDArray[np.int64]:
        return np.where(visits > 0, self.ends[visits - 1], 0)

    def arrays(self) -> Arrays:
        names = ("items", "ends", "visits", "places", "item_ends")
        return {name: getattr(self, name) for name in names}

    def parameters(self) -> Parameters:
        return asdict(self.own)

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:
        return cls(**arrays, own=SessionsParameters(**parameters))


def fit_sessions(log: InteractionLog, parameters: SessionsParameters) -> Sessions:
    """Cut the log into visits, in the order of their ends, and index them."""
    rows = np.arange(len(log))
    starts = history_starts(log.user)
    heads = (rows - starts) % LONGEST_VISIT == 0
    visit = np.cumsum(heads) - 1
    lasts = np.append(np.flatnonzero(heads)[1:], len(log)) - 1
    rank = np.empty(len(lasts), np.int64)
    rank[np.argsort(log.timestamp[lasts], kind="stable")] = np.arange(len(lasts))
    order = np.argsort(rank[visit], kind="stable")
    items, visits = log.item[order], rank[visit][order]
    ends = np.cumsum(np.bincount(visits, minlength=len(lasts)))
    # Of an item that occurs several times in a visit, its last place counts.
    by_item = np.lexsort((rows, visits, items))
    last = np.append((np.diff(items[by_item]) != 0) | (np.diff(visits[by_item]) != 0), True)
    by_item = by_item[last]
    places = _latest(items[by_item], parameters.recent)
    entries = by_item[places]
    return Sessions(
        items,
        ends.astype(np.int64),
        visits[entries].astype(np.int32),
        entries.astype(np.int64),
        np.cumsum(np.bincount(items[entries], minlength=log.n_items)).astype(np.int64),
        parameters,
    )


def _latest(items: Indices, most: int) -> NDArray[np.int64]:
    """Places of the last `most` entries of each item; `items` is ascending."""
    ends = np.searchsorted(items, items, side="right")
    return np.flatnonzero(ends - np.arange(len(items)) <= most)
