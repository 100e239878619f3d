"""The clusters of a large catalogue's vectors, so that a query compares a part of them.

Serving needs `nearest` alone. D. Sculley, "Web-Scale K-Means Clustering", WWW 2010.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from slipstream.models import nearest
from slipstream.models.nearest import Nearest


def clustered(vectors: NDArray[np.float32], seed: int = 0) -> Nearest:
    """An index of the vectors (items, dim), in clusters where there are too many to compare all."""
    n_items = len(vectors)
    if n_items <= nearest.EXACT_UP_TO:
        return Nearest.compared_whole(vectors)
    clusters = int(np.sqrt(n_items))
    means = MiniBatchKMeans(
        clusters, batch_size=8_192, n_init=1, max_iter=20, random_state=seed
    ).fit(vectors)
    items = np.argsort(means.labels_, kind="stable").astype(np.int32)
    place = np.empty(n_items, np.int32)
    place[items] = np.arange(n_items, dtype=np.int32)
    ends = np.cumsum(np.bincount(means.labels_, minlength=clusters)).astype(np.int64)
    return Nearest(
        np.ascontiguousarray(vectors[items]),
        items,
        place,
        means.cluster_centers_.astype(np.float32),
        ends,
    )
