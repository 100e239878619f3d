"""The items whose vectors have the largest inner products with a state: all of them while that is cheap, else those of the
clusters that are nearest.

J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor
Search", IEEE TPAMI 33, 2011 (the inverted file).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Scored, Scores

EXACT_UP_TO = 50_000
"""Up to so many items every one is compared."""
_PROBED = 20_000
"""Beyond, about so many are."""


@dataclass(frozen=True)
class Nearest:
    """`vectors` (items, dim). With clusters: `centres` (clusters, dim), `members` the items, one cluster after the other, and
    `ends` where each cluster ends in `members`; without, all three are empty."""

    vectors: NDArray[np.float32]
    centres: NDArray[np.float32]
    members: Indices
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], seed: int = 0) -> Self:
        """Clusters a catalogue that is too large to be compared whole."""
        n_items, dim = vectors.shape
        if n_items <= EXACT_UP_TO:
            return cls(vectors, np.empty((0, dim), np.float32), np.empty(0, np.int32), np.empty(0, np.int64))
        from sklearn.cluster import MiniBatchKMeans

        clusters = int(np.sqrt(n_items))
        means = MiniBatchKMeans(clusters, batch_size=8_192, n_init=1, max_iter=20, random_state=seed).fit(vectors)
        members = np.argsort(means.labels_, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(means.labels_, minlength=clusters))
        return cls(vectors, means.cluster_centers_.astype(np.float32), members, ends)

    def probabilities(self, state: Scores) -> Scored:
        """The softmax of the inner products over the items that were compared, which are in the answer."""
        items = self._compared(state)
        logits = (self.vectors if items is None else self.vectors[items]) @ state
        top = logits.max()
        share = np.exp(logits - top)
        total = share.sum()
        found = np.arange(len(self.vectors), dtype=np.int32) if items is None else items
        return Scored(found, share / total, np.append(state, top + np.log(total)).astype(np.float32))

    def probabilities_of(self, scored: Scored, items: Indices) -> Scores:
        """Of any items, on the scale of what `probabilities` answered."""
        if scored.state is None:
            return np.zeros(len(items), np.float32)
        if len(scored.item) == len(self.vectors):
            return scored.score[items]
        return np.asarray(np.exp(self.vectors[items] @ scored.state[:-1] - scored.state[-1]), np.float32)

    def arrays(self) -> Arrays:
        return {"vectors": self.vectors, "centres": self.centres, "members": self.members, "ends": self.ends}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(*(arrays[name] for name in ("vectors", "centres", "members", "ends")))

    def _compared(self, state: Scores) -> Indices | None:
        """The members of the clusters nearest to the state, ascending; None for all items."""
        if not len(self.centres):
            return None
        nearest = np.argsort(-(self.centres @ state))
        sizes = np.diff(self.ends, prepend=0)[nearest]
        probed: Any = nearest[: 1 + int(np.searchsorted(np.cumsum(sizes), _PROBED))]
        spans = [self.members[end - size : end] for end, size in zip(self.ends[probed], sizes, strict=False)]
        return np.sort(np.concatenate(spans))
