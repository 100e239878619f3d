"""The probabilities of items by the network's state, as `nearest.Nearest` defines them.

The items' vectors are in the network's row of the table.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot, exp, log
from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import ints, longs, matrix
from slipstream.models.kernels.network import CENTRES, ENDS, ITEMS, PLACE, ROWS
from slipstream.models.kernels.selection import BINS, key, threshold

_ZERO = np.float32(0)


@compiled
def probabilities(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    vector: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """The softmax of the inner products over the compared items, for the best of them.

    Returns:
        How many they are, ascending in `items`, or -1 where they are all of the catalogue; and the
        logarithm of the total.
    """
    vectors = matrix(row, ROWS, len(vector))
    if not row[CENTRES + 1]:
        top = np.float32(-np.inf)
        for i in range(len(vectors)):
            out[i] = dot(vectors[i], vector)
            top = max(top, out[i])
        total = _ZERO
        for i in range(len(vectors)):
            out[i] = exp(out[i] - top)
            total += out[i]
        for i in range(len(vectors)):
            out[i] /= total
        return -1, top + log(total)
    return _of_clusters(row, rule, vectors, vector, items, out)


@compiled
def _of_clusters(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    vectors: NDArray[np.float32],
    vector: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """The same in the clusters nearest to the state, until they have enough items."""
    ends, of_row = longs(row, ENDS), ints(row, ITEMS)
    near = _likeness(row, vector)
    probed, named = np.int64(rule[4]), np.int64(rule[5])
    size, top = np.int64(0), np.float32(-np.inf)
    while size < probed:
        nearest = _next(near)
        if nearest < 0:
            break
        for at in range(ends[nearest - 1] if nearest else 0, ends[nearest]):
            items[size], out[size] = of_row[at], dot(vectors[at], vector)
            top = max(top, out[size])
            size += 1
    total = _ZERO
    for k in range(size):
        total += exp(out[k] - top)
    normaliser = top + log(total)
    kept, least, room = np.int64(0), np.int64(0), size
    if size > named:
        keys, bins = np.empty(size, np.int64), np.empty(BINS, np.int64)
        for k in range(size):
            keys[k] = key(out[k])
        least, room = threshold(keys, size, named, bins)
    for k in range(size):
        order = key(out[k])
        if order > least or (order == least and room > 0):
            room -= order == least
            items[kept], out[kept] = items[k], exp(out[k] - normaliser)
            kept += 1
    return kept, normaliser


@compiled
def _likeness(row: NDArray[np.int64], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inner products of the clusters' centres."""
    centres = matrix(row, CENTRES, len(vector))
    near = np.empty(len(centres), np.float32)
    for c in range(len(centres)):
        near[c] = dot(centres[c], vector)
    return near


@compiled
def _next(near: NDArray[np.float32]) -> int:
    """Take out the nearest cluster that is left; -1 where none is."""
    nearest, most = -1, np.float32(-np.inf)
    for c in range(len(near)):
        if near[c] > most:
            nearest, most = c, near[c]
    if nearest >= 0:
        near[nearest] = -np.inf
    return nearest


@compiled
def allowed_items(
    row: NDArray[np.int64], vector: NDArray[np.float32], allowed: NDArray[np.uint8], enough: int
) -> NDArray[np.int32]:
    """About `enough` allowed items, those of the nearest clusters."""
    ends, of_row = longs(row, ENDS), ints(row, ITEMS)
    near = _likeness(row, vector)
    found, size = np.empty(len(of_row), np.int32), 0
    while size < enough:
        nearest = _next(near)
        if nearest < 0:
            break
        for at in range(ends[nearest - 1] if nearest else 0, ends[nearest]):
            if allowed[of_row[at]]:
                found[size] = of_row[at]
                size += 1
    return found[:size]


@compiled
def logits_of(
    row: NDArray[np.int64],
    vector: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    """The inner products of any items' vectors."""
    vectors, place = matrix(row, ROWS, len(vector)), ints(row, PLACE)
    for k in range(len(items)):
        out[k] = dot(vectors[place[items[k]]], vector)
