"""The items with the vectors of largest inner product with a state.

All items are compared while that is cheap, else those of the likeliest clusters, by codes of a
quarter of the size: J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C.
Schmid, "Product Quantization for Nearest Neighbor Search", IEEE TPAMI 33, 2011 (the inverted file).

The clusters are those of D. Sculley, "Web-Scale K-Means Clustering", WWW 2010. That longer vectors
are kept apart: X. Yan et al., "Norm-Ranging LSH for Maximum Inner Product Search", NeurIPS 2018.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Mask, Scores, SoftmaxState, SparseScores

# The largest catalogue that is compared in full.
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
# The number of clusters, times the square root of the number of items.
_FINENESS = 4
# Ends of the shells, as shares of the items from the longest vector on.
_SHELLS = (0.01, 0.1, 0.5, 1.0)
# A longer vector is among the best more often: a shell has as many clusters for each item as this
# power of its vectors' median length.
_POWER = 8
# Items of a cluster of the finest shell.
_FINEST = 4


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
        """The index of saved arrays. Radii and codes are made where an older version saved none."""
        names = [one.name for one in fields(cls)]
        if all(name in arrays for name in names):
            return cls(*(arrays[name] for name in names))
        return cls.of_clusters(*(arrays[name] for name in names[:5]))

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


def clustered(vectors: NDArray[np.float32], seed: int = 0) -> Nearest:
    """An index of the vectors (items, dim), in clusters where there are too many to compare all."""
    n_items = len(vectors)
    if n_items <= EXACT_UP_TO:
        return Nearest.compared_whole(vectors)
    # It takes a second to import, which only a large catalogue needs.
    from sklearn.cluster import MiniBatchKMeans

    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    longest_first = np.argsort(-length, kind="stable")
    shells = np.split(longest_first, [int(share * n_items) for share in _SHELLS[:-1]])
    of_item = np.empty(n_items, np.int64)
    centres: list[NDArray[np.float32]] = []
    begin = 0
    for shell, clusters in zip(shells, _shares(length, shells), strict=True):
        means = MiniBatchKMeans(
            clusters,
            init="random",
            batch_size=max(8_192, 4 * clusters),
            n_init=1,
            max_iter=20,
            random_state=seed,
        ).fit(vectors[shell])
        of_item[shell] = begin + means.labels_
        centres.append(means.cluster_centers_.astype(np.float32))
        begin += clusters
    items = np.argsort(of_item, kind="stable").astype(np.int32)
    place = np.empty(n_items, np.int32)
    place[items] = np.arange(n_items, dtype=np.int32)
    ends = np.cumsum(np.bincount(of_item, minlength=begin)).astype(np.int64)
    rows = np.ascontiguousarray(vectors[items])
    return Nearest.of_clusters(rows, items, place, np.concatenate(centres), ends)


def _shares(length: NDArray[np.float32], shells: list[NDArray[np.int64]]) -> list[int]:
    """The number of clusters of each shell."""
    root = np.sqrt(len(length))
    sizes = np.array([len(shell) for shell in shells])
    usual = np.array([np.median(length[shell]) for shell in shells], np.float64)
    density = sizes * (usual / max(usual.max(), 1e-9)) ** _POWER
    wanted = _FINENESS * root * density / max(density.sum(), 1e-9)
    least, most = np.maximum(sizes / (2 * root), 1), np.maximum(sizes / _FINEST, 1)
    found: list[int] = np.clip(wanted, least, most).astype(int).tolist()
    return found
