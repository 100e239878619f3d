"""The items whose vectors have the largest inner products with a state: all are compared while that
is cheap, else those of the clusters that are nearest.

J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C. Schmid, "Product
Quantization for Nearest Neighbor Search", IEEE TPAMI 33, 2011 (the inverted file).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Scored, Scores

# Up to so many items every one is compared, see `clusters`.
EXACT_UP_TO = 20_000
# Beyond, about so many are.
_PROBED = 10_000
# Of these so many, the best, are named.
_NAMED = 1_000


@dataclass(frozen=True)
class Nearest:
    """`rows` (items, dim) are the vectors. With clusters they lie one cluster after the other, each
    ending in `ends`: `items` says of which item each row is, `place` in which row each item lies,
    and `centres` (clusters, dim) where the clusters are. Without, row and item are the same, and
    all four are empty.
    """

    rows: NDArray[np.float32]
    items: Indices
    place: Indices
    centres: NDArray[np.float32]
    ends: NDArray[np.int64]

    @classmethod
    def compared_whole(cls, vectors: NDArray[np.float32]) -> Self:
        """Without clusters, however large."""
        none = np.empty(0, np.int32)
        return cls(
            vectors, none, none, np.empty((0, vectors.shape[1]), np.float32), np.empty(0, np.int64)
        )

    def vectors(self, items: Indices) -> NDArray[np.float32]:
        """Those of any items (items, dim)."""
        return self.rows[self.place[items]] if len(self.place) else self.rows[items]

    def probabilities(self, state: Scores) -> Scored:
        """The softmax of the inner products over the items that were compared, for the best of
        them.
        """
        if not len(self.centres):
            logits = self.rows @ state
            top = logits.max()
            share = np.exp(logits - top)
            total = share.sum()
            found = np.arange(len(logits), dtype=np.int32)
            return Scored(
                found, share / total, np.append(state, top + np.log(total)).astype(np.float32)
            )
        begins, ends = self._nearest(state)
        logits = np.concatenate(
            [self.rows[begin:end] @ state for begin, end in zip(begins, ends, strict=True)]
        )
        compared = np.concatenate(
            [self.items[begin:end] for begin, end in zip(begins, ends, strict=True)]
        )
        top = logits.max()
        normaliser = top + np.log(np.exp(logits - top).sum())
        if len(logits) > _NAMED:
            best = np.argpartition(-logits, _NAMED)[:_NAMED]
            compared, logits = compared[best], logits[best]
        order = np.argsort(compared)
        share = np.exp(logits[order] - normaliser)
        return Scored(compared[order], share, np.append(state, normaliser).astype(np.float32))

    def probabilities_of(self, scored: Scored, items: Indices) -> Scores:
        """Of any items, on the scale of what `probabilities` answered."""
        if scored.state is None:
            return np.zeros(len(items), np.float32)
        if not len(self.centres):
            return scored.score[items]
        return np.asarray(
            np.exp(self.vectors(items) @ scored.state[:-1] - scored.state[-1]), np.float32
        )

    def arrays(self) -> Arrays:
        return {name: getattr(self, name) for name in ("rows", "items", "place", "centres", "ends")}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(*(arrays[name] for name in ("rows", "items", "place", "centres", "ends")))

    def _nearest(self, state: Scores) -> tuple[list[int], list[int]]:
        """Where the rows of the clusters nearest to the state begin and end."""
        nearest = np.argsort(-(self.centres @ state))
        ends = self.ends[nearest]
        begins = np.where(nearest > 0, self.ends[nearest - 1], 0)
        probed = 1 + int(np.searchsorted(np.cumsum(ends - begins), _PROBED))
        return begins[:probed].tolist(), ends[:probed].tolist()
