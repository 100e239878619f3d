"""The items whose vectors have the largest inner products with a state.

All items are compared while that is cheap, else those of the nearest clusters: J. Sivic, A.
Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C. Schmid, "Product Quantization for
Nearest Neighbor Search", IEEE TPAMI 33, 2011 (the inverted file).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Mask, Scores, SoftmaxState, SparseScores

# The largest catalogue whose items are all compared, see `clusters`.
EXACT_UP_TO = 20_000
# About the number of items compared in a larger one.
PROBED = 20_000
# Of these, the number of best items that are named.
NAMED = 1_000
# Under a mask that leaves too few of the named: all allowed items are compared if they are no more
# than this, else about so many of those in the nearest clusters.
_ALLOWED = 10_000


@dataclass(frozen=True)
class Nearest:
    """An index of item vectors.

    Without clusters, rows are items and all arrays but `rows` are empty.

    Attributes:
        rows: The vectors (items, dim), one cluster after the other.
        items: The item of each row.
        place: The row of each item.
        centres: The centres of the clusters (clusters, dim).
        ends: The end of each cluster in `rows`.
    """

    rows: NDArray[np.float32]
    items: Indices
    place: Indices
    centres: NDArray[np.float32]
    ends: NDArray[np.int64]

    @classmethod
    def compared_whole(cls, vectors: NDArray[np.float32]) -> Self:
        """An index without clusters, for a catalogue of any size."""
        none = np.empty(0, np.int32)
        return cls(
            vectors, none, none, np.empty((0, vectors.shape[1]), np.float32), np.empty(0, np.int64)
        )

    def vectors(self, items: Indices) -> NDArray[np.float32]:
        """The vectors of any items (items, dim)."""
        return self.rows[self.place[items]] if len(self.place) else self.rows[items]

    def probabilities(self, state: Scores) -> SparseScores:
        """The softmax of the inner products over the compared items, for the best of them."""
        if not len(self.centres):
            logits = self.rows @ state
            top = logits.max()
            share = np.exp(logits - top)
            total = share.sum()
            everything = np.arange(len(logits), dtype=np.int32)
            normaliser = np.float32(top + np.log(total))
            return SparseScores(everything, share / total, SoftmaxState(state, normaliser))
        begins, ends = self._nearest(state)
        logits = np.concatenate(
            [self.rows[begin:end] @ state for begin, end in zip(begins, ends, strict=True)]
        )
        compared = np.concatenate(
            [self.items[begin:end] for begin, end in zip(begins, ends, strict=True)]
        )
        top = logits.max()
        normaliser = top + np.log(np.exp(logits - top).sum())
        if len(logits) > NAMED:
            best = np.argpartition(-logits, NAMED)[:NAMED]
            compared, logits = compared[best], logits[best]
        order = np.argsort(compared)
        share = np.exp(logits[order] - normaliser)
        return SparseScores(compared[order], share, SoftmaxState(state, np.float32(normaliser)))

    def probabilities_of(self, scored: SparseScores, items: Indices) -> Scores:
        """The probabilities of any items, on the scale of an answer of `probabilities`."""
        softmax = scored.state
        if softmax is None:
            return np.zeros(len(items), np.float32)
        if not len(self.centres):
            return scored.score[items]
        return np.asarray(
            np.exp(self.vectors(items) @ softmax.vector - softmax.log_total), np.float32
        )

    def best(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        """The `limit` most probable of the allowed items, given an answer of `probabilities`."""
        named = scored.best(limit, allowed)
        state, large = scored.state, len(self.centres) > 0
        if len(named) == limit or allowed is None or state is None or not large:
            return named
        if np.count_nonzero(allowed) <= _ALLOWED:
            rows = self.place[np.flatnonzero(allowed)].astype(np.int64)
        else:
            rows = self._allowed_rows(state.vector, allowed)
        items, logits = self.items[rows], self.rows[rows] @ state.vector
        order = np.argsort(items)
        return SparseScores(items[order], logits[order]).best(limit)

    def _allowed_rows(self, state: Scores, allowed: Mask) -> NDArray[np.int64]:
        """The rows of about `_ALLOWED` allowed items, those of the nearest clusters."""
        found: list[NDArray[np.int64]] = []
        missing = _ALLOWED
        for cluster in np.argsort(-(self.centres @ state)).tolist():
            begin, end = self.ends[cluster - 1] if cluster else 0, self.ends[cluster]
            rows = begin + np.flatnonzero(allowed[self.items[begin:end]])
            found.append(rows)
            missing -= len(rows)
            if missing <= 0:
                break
        return np.concatenate(found)

    def arrays(self) -> Arrays:
        return {name: getattr(self, name) for name in ("rows", "items", "place", "centres", "ends")}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(*(arrays[name] for name in ("rows", "items", "place", "centres", "ends")))

    def _nearest(self, state: Scores) -> tuple[list[int], list[int]]:
        """The begins and ends of the rows in the clusters nearest to the state."""
        nearest = np.argsort(-(self.centres @ state))
        ends = self.ends[nearest]
        begins = np.where(nearest > 0, self.ends[nearest - 1], 0)
        probed = 1 + int(np.searchsorted(np.cumsum(ends - begins), PROBED))
        return begins[:probed].tolist(), ends[:probed].tolist()
