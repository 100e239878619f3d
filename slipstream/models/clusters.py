"""The clusters of a large catalogue's vectors, so that a query compares a part of them.

Serving needs `nearest` alone. D. Sculley, "Web-Scale K-Means Clustering", WWW 2010. That longer
vectors are kept apart: X. Yan et al., "Norm-Ranging LSH for Maximum Inner Product Search", NeurIPS
2018.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models import nearest
from slipstream.models.nearest import Nearest

# The number of clusters, times the square root of the number of items.
_FINENESS = 4
# Ends of the shells, as shares of the items from the longest vector on.
_SHELLS = (0.01, 0.1, 0.5, 1.0)
# A longer vector is among the best more often: a shell has as many clusters for each item as this
# power of its vectors' median length.
_POWER = 8
# Items of a cluster of the finest shell.
_FINEST = 4


def clustered(vectors: NDArray[np.float32], seed: int = 0) -> Nearest:
    """An index of the vectors (items, dim), in clusters where there are too many to compare all."""
    n_items = len(vectors)
    if n_items <= nearest.EXACT_UP_TO:
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
