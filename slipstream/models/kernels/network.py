"""The transformer's state at the last event of a history, and the probabilities of items.

They are those of `transformer.Transformer` and `nearest.Nearest`, which define them.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import (
    dot,
    exp,
    log,
    multiply,
    normalise,
    sigmoid,
)
from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import bits_of_double, floats, ints, longs, matrix
from slipstream.models.kernels.selection import BINS, key, threshold

# Places of arrays in the network's row of the table.
ROWS, ITEMS, PLACE, CENTRES, ENDS = 2, 4, 6, 8, 10
KINDS, KIND_WEIGHTS, DISTANCE, GAP, NORM, BUCKETS_OF = 12, 14, 16, 18, 20, 22
FIRST_BLOCK = 24
# Places of arrays of a block, from its begin.
ATTENTION_NORM, QKV_GATE, GATE_BIAS, OUT, FEED_NORM, UP_GATE, FEED_GATE_BIAS, DOWN = range(0, 16, 2)
BLOCK = 16
BUCKETS = 32
_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled
def state(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    item: NDArray[np.int32],
    weight: NDArray[np.float32],
    time: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """The state at the last event.

    `rule` holds window, heads, blocks, the length of a vector, and, for `probabilities`, how many
    items are compared where there are clusters, and how many of them are named.
    """
    window, heads, blocks = np.int64(rule[0]), np.int64(rule[1]), np.int64(rule[2])
    dim = np.int64(rule[3])
    begin = max(0, len(item) - window)
    length = len(item) - begin
    x = np.empty((length, dim), np.float32)
    _embed(row, item[begin:], weight[begin:], x)
    late = np.empty((length, length), np.int32)
    for i in range(length):
        for j in range(i + 1):
            late[i, j] = _gap_bucket(time[begin + i] - time[begin + j])

    width = 4 * dim
    projected = np.empty((length, width), np.float32)
    y = np.empty((length, dim), np.float32)
    seen = np.empty((length, dim), np.float32)
    mixed = np.empty((length, dim), np.float32)
    for block in range(blocks):
        at = FIRST_BLOCK + block * BLOCK
        first = length - 1 if block == blocks - 1 else 0
        norm = floats(row, at + ATTENTION_NORM)
        for i in range(length):
            normalise(x[i], norm, y[i])
        # Keys and values of every event, query and gate of those that are asked for.
        multiply(y, matrix(row, at + QKV_GATE, width), projected)
        distance = matrix(row, DISTANCE, BUCKETS)[block * heads : (block + 1) * heads]
        gap = matrix(row, GAP, BUCKETS)[block * heads : (block + 1) * heads]
        _attend(projected, first, distance, gap, ints(row, BUCKETS_OF), late, seen)
        multiply(seen[first:], matrix(row, at + OUT, dim), mixed[first:])
        bias = floats(row, at + GATE_BIAS)
        for i in range(first, length):
            for k in range(dim):
                x[i, k] += sigmoid(projected[i, 3 * dim + k] + bias[k]) * mixed[i, k]
        _feed(row, at, x[first:], y[first:], mixed[first:])
    normalise(x[length - 1], floats(row, NORM), out)


@compiled
def _embed(
    row: NDArray[np.int64],
    item: NDArray[np.int32],
    weight: NDArray[np.float32],
    x: NDArray[np.float32],
) -> None:
    length, dim = x.shape
    vectors, kinds = matrix(row, ROWS, dim), matrix(row, KINDS, dim)
    place, weights = ints(row, PLACE), floats(row, KIND_WEIGHTS)
    scale = np.float32(np.sqrt(np.float64(dim)))
    for i in range(length):
        kind = 0
        while kind + 1 < len(weights) and weights[kind + 1] <= weight[i]:
            kind += 1
        vector = vectors[place[item[i]] if len(place) else item[i]]
        for k in range(dim):
            x[i, k] = vector[k] * scale + kinds[kind, k]


@compiled
def _gap_bucket(gap_ms: int) -> int:
    # The exponent is the whole part of the logarithm to base 2.
    exponent = (bits_of_double(max(gap_ms, 0) / 1_000.0 + 1.0) >> 52) - 1023
    return min(exponent, BUCKETS - 1)


@compiled
def _attend(
    projected: NDArray[np.float32],
    first: int,
    distance: NDArray[np.float32],
    gap: NDArray[np.float32],
    near: NDArray[np.int32],
    late: NDArray[np.int32],
    seen: NDArray[np.float32],
) -> None:
    """What the events from `first` on take from themselves and those before."""
    length, dim = seen.shape
    heads = len(distance)
    size = dim // heads
    scale = _ONE / np.sqrt(np.float32(size))
    share = np.empty(length, np.float32)
    for head in range(heads):
        begin = head * size
        for i in range(first, length):
            query = projected[i, begin : begin + size]
            top = np.float32(-np.inf)
            for j in range(i + 1):
                logit = dot(query, projected[j, dim + begin : dim + begin + size]) * scale
                logit += distance[head, near[i - j]] + gap[head, late[i, j]]
                share[j] = logit
                top = max(top, logit)
            total = _ZERO
            for j in range(i + 1):
                share[j] = exp(share[j] - top)
                total += share[j]
            out = seen[i, begin : begin + size]
            for k in range(size):
                out[k] = _ZERO
            for j in range(i + 1):
                part = share[j] / total
                value = projected[j, 2 * dim + begin : 2 * dim + begin + size]
                for k in range(size):
                    out[k] += part * value[k]


@compiled
def _feed(
    row: NDArray[np.int64],
    at: int,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    fed: NDArray[np.float32],
) -> None:
    """The block's second half: a gated feed-forward network (SwiGLU)."""
    length, dim = x.shape
    norm, bias = floats(row, at + FEED_NORM), floats(row, at + FEED_GATE_BIAS)
    hidden = row[at + DOWN + 1] // dim
    width = 2 * hidden + dim
    wide = np.empty((length, width), np.float32)
    active = np.empty((length, hidden), np.float32)
    for i in range(length):
        normalise(x[i], norm, y[i])
    multiply(y, matrix(row, at + UP_GATE, width), wide)
    for i in range(length):
        for k in range(hidden):
            gate = wide[i, hidden + k]
            active[i, k] = gate * sigmoid(gate) * wide[i, k]
    multiply(active, matrix(row, at + DOWN, dim), fed)
    for i in range(length):
        for k in range(dim):
            x[i, k] += sigmoid(wide[i, 2 * hidden + k] + bias[k]) * fed[i, k]


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
