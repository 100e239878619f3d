"""The items with the vectors of largest inner product with a state.

All items are compared while that is cheap, else those of the likeliest clusters, by codes of a
quarter of the size: J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C.
Schmid, "Product Quantization for Nearest Neighbor Search", IEEE TPAMI 33, 2011 (the inverted file).
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Mask, Scores, SoftmaxState, SparseScores

# The largest catalogue that is compared in full, see `clusters`.
EXACT_UP_TO = 20_000
# About the number of items compared in a larger one.
PROBED = 20_000
# Of these, the number of best items that are named.
NAMED = 1_000
# Under a mask that leaves too few of the named: all allowed items are compared if they are no more
# than this, else about so many of those in the likeliest clusters.
_ALLOWED = 10_000
# How far above a cluster's centre its best item is looked for, in standard deviations of the
# cluster's inner products with a state of any direction.
REACH = 2.0
# The largest whole number of a code, and of a state that codes are compared with. Sums of so many
# products fit into 32 bits.
_CODE, STEPS, LONGEST = 127, 8_191, 2_000


@dataclass(frozen=True)
class Nearest:
    """An index of item vectors.

    Without clusters, rows are items and all arrays but `rows` are empty.

    Attributes:
        rows: The vectors (items, dim), one cluster after the other.
        place: The row of each item.
        centres: The centres of the clusters (clusters, dim).
        ends: The end of each cluster in `rows`.
        radii: The root mean square distance of each cluster's vectors to its centre.
        codes: The rows in whole numbers (items, dim), int8.
        scales: For each row, what its code has to be multiplied by.
    """

    rows: NDArray[np.float32]
    items: Indices
    place: Indices
    centres: NDArray[np.float32]
    ends: NDArray[np.int64]
    radii: NDArray[np.float32]
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def compared_whole(cls, vectors: NDArray[np.float32]) -> Self:
        """An index without clusters, for a catalogue of any size."""
        none, no_vectors = np.empty(0, np.int32), np.empty((0, vectors.shape[1]), np.float32)
        return cls.of_clusters(vectors, none, none, no_vectors, np.empty(0, np.int64))

    @classmethod
    def of_clusters(
        cls,
        rows: NDArray[np.float32],
        items: Indices,
        place: Indices,
        centres: NDArray[np.float32],
        ends: NDArray[np.int64],
    ) -> Self:
        """An index of these clusters, with the radii and codes that follow from them."""
        coded = rows[: len(items)]
        radii = np.empty(len(centres), np.float32)
        scales, codes = np.empty(len(coded), np.float32), np.empty(coded.shape, np.int8)
        begin = 0
        for cluster, end in enumerate(ends.tolist()):
            part = coded[begin:end]
            apart = part - centres[cluster]
            radii[cluster] = np.sqrt(np.vdot(apart, apart) / max(1, end - begin))
            scale = np.abs(part).max(axis=1, initial=0) / _CODE
            scales[begin:end] = scale
            codes[begin:end] = np.rint(part / np.where(scale > 0, scale, 1)[:, None])
            begin = end
        return cls(rows, items, place, centres, ends, radii, codes, scales)

    def vectors(self, items: Indices) -> NDArray[np.float32]:
        """The vectors of any items (items, dim)."""
        return self.rows[self.place[items]] if len(self.place) else self.rows[items]

    def probabilities(self, state: Scores) -> SparseScores:
        """The softmax of the inner products over all items, or the best ones of those compared."""
        if not len(self.centres):
            logits = self.rows @ state
            top = logits.max()
            share = np.exp(logits - top)
            total = share.sum()
            everything = np.arange(len(logits), dtype=np.int32)
            normaliser = np.float32(top + np.log(total))
            return SparseScores(everything, share / total, SoftmaxState(state, normaliser))
        parts = self._probed(state)
        compared = np.concatenate([self.items[part] for part in parts])
        unit = max(float(np.abs(state).max(initial=0)), 0.0) / STEPS or 1.0
        steps = np.floor(state / np.float32(unit) + np.float32(0.5))
        fit = np.concatenate([self.codes[part] @ steps * self.scales[part] for part in parts])
        if len(fit) > NAMED:
            best = np.argpartition(-fit, NAMED)[:NAMED]
            compared, fit = compared[best], fit[best]
        order = np.argsort(compared)
        logits = fit[order] * np.float32(unit)
        top = logits.max()
        normaliser = top + np.log(np.exp(logits - top).sum())
        share = np.exp(logits - normaliser)
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
        """The rows of about `_ALLOWED` allowed items, those of the likeliest clusters."""
        found: list[NDArray[np.int64]] = []
        missing = _ALLOWED
        for cluster in self._likeliest(state).tolist():
            begin, end = self.ends[cluster - 1] if cluster else 0, self.ends[cluster]
            rows = begin + np.flatnonzero(allowed[self.items[begin:end]])
            found.append(rows)
            missing -= len(rows)
            if missing <= 0:
                break
        return np.concatenate(found)

    def arrays(self) -> Arrays:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        """The index of saved arrays."""
        return cls(*(arrays[one.name] for one in fields(cls)))

    def _likeliest(self, state: Scores) -> NDArray[np.int64]:
        """The clusters by how good their best item may be."""
        reach = REACH * np.linalg.norm(state) / np.sqrt(len(state))
        return np.argsort(-(self.centres @ state + reach * self.radii), kind="stable")

    def _probed(self, state: Scores) -> list[slice]:
        """The rows of the likeliest clusters, as many as hold `PROBED`."""
        clusters = self._likeliest(state)
        ends = self.ends[clusters]
        begins = np.where(clusters > 0, self.ends[clusters - 1], 0)
        probed = 1 + int(np.searchsorted(np.cumsum(ends - begins), PROBED))
        return list(map(slice, begins[:probed].tolist(), ends[:probed].tolist()))
