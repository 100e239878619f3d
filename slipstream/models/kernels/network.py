"""The network's state at the last event of a history; `transformer.Transformer` defines it."""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot, exp, multiply, normalise, sigmoid
from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import bits_of_double, floats, ints, matrix

# Places of arrays in the network's row of the table; `nearest` reads the first eight.
ROWS, ITEMS, PLACE, CENTRES, ENDS, RADII, CODES, SCALES = range(2, 18, 2)
KINDS, KIND_WEIGHTS, DISTANCE, GAP, NORM, BUCKETS_OF = range(18, 30, 2)
# What the first block makes of each item and kind, keys and values, query and gate; may be empty.
PROJECTED = 30
FIRST_BLOCK = 32
# Places of arrays of a block, from its begin.
ATTENTION_NORM, KEY_VALUE, QUERY_GATE, GATE_BIAS, OUT = range(0, 10, 2)
FEED_NORM, UP_GATE, FEED_GATE_BIAS, DOWN = range(10, 18, 2)
BLOCK = 18
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

    `rule` holds window, heads, blocks, the length of a vector, and what `nearest` reads: where
    there are clusters, how many items are compared, how many of them are named, and how far a
    cluster's radius counts.
    """
    window, heads, blocks = np.int64(rule[0]), np.int64(rule[1]), np.int64(rule[2])
    dim = np.int64(rule[3])
    begin = max(0, len(item) - window)
    length = len(item) - begin
    x = np.empty((length, dim), np.float32)
    kinds = np.empty(length, np.int32)
    _embed(row, item[begin:], weight[begin:], kinds, x)
    late = np.empty((length, length), np.int32)
    for i in range(length):
        for j in range(i + 1):
            late[i, j] = _gap_bucket(time[begin + i] - time[begin + j])

    # Keys and values of every event, queries and gates of those that are asked for.
    known = np.empty((length, 2 * dim), np.float32)
    asked = np.empty((length, 2 * dim), np.float32)
    y = np.empty((length, dim), np.float32)
    seen = np.empty((length, dim), np.float32)
    mixed = np.empty((length, dim), np.float32)
    for block in range(blocks):
        at = FIRST_BLOCK + block * BLOCK
        first = length - 1 if block == blocks - 1 else 0
        if block or not row[PROJECTED + 1]:
            norm = floats(row, at + ATTENTION_NORM)
            for i in range(length):
                normalise(x[i], norm, y[i])
            multiply(y, matrix(row, at + KEY_VALUE, 2 * dim), known)
            multiply(y[first:], matrix(row, at + QUERY_GATE, 2 * dim), asked[first:])
        else:
            _look_up(row, item[begin:], kinds, known, asked)
        distance = matrix(row, DISTANCE, BUCKETS)[block * heads : (block + 1) * heads]
        gap = matrix(row, GAP, BUCKETS)[block * heads : (block + 1) * heads]
        _attend(known, asked, first, distance, gap, ints(row, BUCKETS_OF), late, seen)
        multiply(seen[first:], matrix(row, at + OUT, dim), mixed[first:])
        bias = floats(row, at + GATE_BIAS)
        for i in range(first, length):
            for k in range(dim):
                x[i, k] += sigmoid(asked[i, dim + k] + bias[k]) * mixed[i, k]
        _feed(row, at, x[first:], y[first:], mixed[first:])
    normalise(x[length - 1], floats(row, NORM), out)


@compiled
def _embed(
    row: NDArray[np.int64],
    item: NDArray[np.int32],
    weight: NDArray[np.float32],
    kinds: NDArray[np.int32],
    x: NDArray[np.float32],
) -> None:
    """The sum of each event's vectors of its item and its kind, and which kind it is."""
    length, dim = x.shape
    vectors, of_kind = matrix(row, ROWS, dim), matrix(row, KINDS, dim)
    place, weights = ints(row, PLACE), floats(row, KIND_WEIGHTS)
    scale = np.float32(np.sqrt(np.float64(dim)))
    for i in range(length):
        kind = 0
        while kind + 1 < len(weights) and weights[kind + 1] <= weight[i]:
            kind += 1
        kinds[i] = kind
        vector = vectors[place[item[i]] if len(place) else item[i]]
        for k in range(dim):
            x[i, k] = vector[k] * scale + of_kind[kind, k]


@compiled
def _look_up(
    row: NDArray[np.int64],
    item: NDArray[np.int32],
    kinds: NDArray[np.int32],
    known: NDArray[np.float32],
    asked: NDArray[np.float32],
) -> None:
    length, width = known.shape
    projected = matrix(row, PROJECTED, 2 * width)
    every = len(floats(row, KIND_WEIGHTS))
    for i in range(length):
        of_event = projected[item[i] * every + kinds[i]]
        for k in range(width):
            known[i, k], asked[i, k] = of_event[k], of_event[width + k]


@compiled
def _gap_bucket(gap_ms: int) -> int:
    # The exponent is the whole part of the logarithm to base 2.
    exponent = (bits_of_double(max(gap_ms, 0) / 1_000.0 + 1.0) >> 52) - 1023
    return min(exponent, BUCKETS - 1)


@compiled
def _attend(
    known: NDArray[np.float32],
    asked: NDArray[np.float32],
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
            query = asked[i, begin : begin + size]
            top = np.float32(-np.inf)
            for j in range(i + 1):
                logit = dot(query, known[j, begin : begin + size]) * scale
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
                value = known[j, dim + begin : dim + begin + size]
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
