"""The probabilities of items by the network's state, as `nearest.Nearest` defines them.

The items' vectors are in the network's row of the table.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot, exp, log, whole_dot
from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import floats, ints, longs, matrix, prefetch, small_ints
from slipstream.models.kernels.network import (
    CENTRES,
    CODES,
    ENDS,
    ITEMS,
    PLACE,
    RADII,
    ROWS,
    SCALES,
)
from slipstream.models.kernels.selection import BINS, key, threshold

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
# As `nearest.STEPS`.
_STEPS = np.float32(8_191)
_LAST = np.int64(0x7FFFFFFF)
# Times as many items as are named, between two choices of the best.
_ROOM = 4
# Rows that the processor is told to load before they are compared, since clusters lie apart.
_AHEAD = 16
# Bytes that it loads at once.
_LINE = 64


@compiled
def probabilities(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    vector: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """The softmax of the inner products over all items, or the best ones of those compared.

    Returns:
        How many they are, in `items`, or -1 where they are all of the catalogue; and the logarithm
        of the total.
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
    return _of_clusters(row, rule, vector, items, out)


@compiled
def _of_clusters(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    vector: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """The same of the best items in the likeliest clusters, by their codes."""
    ends, of_row = longs(row, ENDS), ints(row, ITEMS)
    width = len(vector)
    codes, scales = small_ints(row, CODES, width), floats(row, SCALES)
    steps = np.empty(width, np.int16)
    unit = _in_steps(vector, steps)
    clusters, named = _probed(row, rule, vector), np.int64(rule[5])
    # So many are kept before the best of them are chosen, which is then the least to be reached.
    room = min(_ROOM * named, len(items))
    keys, bins = np.empty(room, np.int64), np.empty(BINS, np.int64)
    size, least = np.int64(0), np.float32(-np.inf)
    for c in range(len(clusters)):
        if c + 1 < len(clusters):
            begin = _begin(ends, clusters[c + 1])
            for at in range(begin, begin + _AHEAD):
                prefetch(row[CODES] + at * width)
        for at in range(_begin(ends, clusters[c]), ends[clusters[c]]):
            prefetch(row[CODES] + (at + _AHEAD) * width)
            fit = np.float32(whole_dot(codes[at], steps)) * scales[at]
            if fit > least:
                items[size], out[size] = of_row[at], fit
                size += 1
                if size == room and size > named:
                    size, least = _best(items, out, size, named, keys, bins)
    if size > named:
        size, least = _best(items, out, size, named, keys, bins)
    top, total = np.float32(-np.inf), _ZERO
    for k in range(size):
        out[k] *= unit
        top = max(top, out[k])
    for k in range(size):
        total += exp(out[k] - top)
    normaliser = top + log(total)
    for k in range(size):
        out[k] = exp(out[k] - normaliser)
    return size, normaliser


@compiled
def _best(
    items: NDArray[np.int32],
    fit: NDArray[np.float32],
    size: int,
    most: int,
    keys: NDArray[np.int64],
    bins: NDArray[np.int64],
) -> tuple[int, np.float32]:
    """Keep the `most` best, of equal ones the first. Returns their number, and the worst of them.

    They stay in their order, so that the best of several turns are those of one.
    """
    for k in range(size):
        keys[k] = key(fit[k])
    lowest, room = threshold(keys, size, most, bins)
    kept, least = np.int64(0), np.float32(np.inf)
    for k in range(size):
        order = key(fit[k])
        if order > lowest or (order == lowest and room > 0):
            room -= order == lowest
            items[kept], fit[kept] = items[k], fit[k]
            least = min(least, fit[k])
            kept += 1
    return kept, least


@compiled
def _in_steps(vector: NDArray[np.float32], steps: NDArray[np.int16]) -> np.float32:
    """A state in whole steps of the returned length."""
    top = _ZERO
    for k in range(len(vector)):
        top = max(top, abs(vector[k]))
    unit = top / _STEPS if top > 0 else _ONE
    for k in range(len(vector)):
        steps[k] = np.int16(np.floor(vector[k] / unit + _HALF))
    return unit


@compiled
def _clusters(
    row: NDArray[np.int64], rule: NDArray[np.float64], vector: NDArray[np.float32]
) -> NDArray[np.int64]:
    """A heap of the clusters, the likeliest first, of equal ones the first."""
    centres, radii = matrix(row, CENTRES, len(vector)), floats(row, RADII)
    reach = np.float32(rule[6]) * np.sqrt(dot(vector, vector))
    heap = np.empty(len(centres), np.int64)
    for c in range(len(centres)):
        heap[c] = key(dot(centres[c], vector) + reach * radii[c]) << 31 | (_LAST - c)
    for c in range(len(heap) // 2 - 1, -1, -1):
        _sink(heap, c, len(heap))
    return heap


@compiled
def _probed(
    row: NDArray[np.int64], rule: NDArray[np.float64], vector: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The likeliest clusters, as many as hold the items that are to be compared."""
    ends, enough = longs(row, ENDS), np.int64(rule[4])
    heap, left = _clusters(row, rule, vector), len(ends)
    found = np.empty(left, np.int64)
    size, compared = 0, np.int64(0)
    while compared < enough and left:
        found[size] = _pop(heap, left)
        compared += ends[found[size]] - _begin(ends, found[size])
        left -= 1
        size += 1
    return found[:size]


@compiled
def _begin(ends: NDArray[np.int64], cluster: int) -> int:
    return ends[cluster - 1] if cluster else 0


@compiled
def _pop(heap: NDArray[np.int64], size: int) -> int:
    """Take the first cluster out of a heap of this size."""
    cluster = _LAST - (heap[0] & _LAST)
    heap[0] = heap[size - 1]
    _sink(heap, 0, size - 1)
    return cluster


@compiled
def _sink(heap: NDArray[np.int64], at: int, size: int) -> None:
    """Put an entry below all that are larger."""
    entry, child = heap[at], 2 * at + 1
    while child < size:
        child += child + 1 < size and heap[child + 1] > heap[child]
        if heap[child] <= entry:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = entry


@compiled
def allowed_items(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    vector: NDArray[np.float32],
    allowed: NDArray[np.uint8],
    enough: int,
) -> NDArray[np.int32]:
    """About `enough` allowed items, those of the likeliest clusters."""
    ends, of_row = longs(row, ENDS), ints(row, ITEMS)
    heap, left = _clusters(row, rule, vector), row[ENDS + 1]
    found, size = np.empty(len(of_row), np.int32), 0
    while size < enough and left:
        cluster = _pop(heap, left)
        left -= 1
        for at in range(_begin(ends, cluster), ends[cluster]):
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
    width, size = len(vector), len(items)
    vectors, place = matrix(row, ROWS, width), ints(row, PLACE)
    at = np.empty(size + _AHEAD, np.int64)
    for k in range(size):
        at[k] = place[items[k]]
    for k in range(size, len(at)):
        at[k] = 0
    for k in range(size):
        ahead = row[ROWS] + at[k + _AHEAD] * width * 4
        for line in range(0, width * 4, _LINE):
            prefetch(ahead + line)
        out[k] = dot(vectors[at[k]], vector)
