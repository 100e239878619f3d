"""The order of candidates: the blend's features, the ranker's, and its correction.

They are those of `blend.log_shares`, `recommender.ranking_features` and `ranker.Ranker`.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import log, multiply
from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import floats, ints, matrix
from slipstream.models.kernels.selection import BINS, best_rows, key, threshold

# Places in the first row of the table.
N_ITEMS, RETRIEVERS, FLOORS, MEAN, SCALE, HIDDEN, HIDDEN_BIAS, OUT = 0, 1, 2, 4, 6, 8, 10, 12
NUMBERS, CODES, PRICE, N_NUMBERS, N_CODES = 14, 16, 18, 20, 21
# As in `recommender.ranking_features`.
TOP, LATEST, LONGEST = 20, 20, 100
# Features of a history, and of how a candidate fits it.
OF_HISTORY = 6
_f = np.float32
_ZERO, _ONE, _LEAST, _FURTHEST = _f(0), _f(1), _f(1e-7), _f(10)


@compiled
def log_shares(
    scores: NDArray[np.float32],
    totals: NDArray[np.float32],
    floors: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """The blend's features. Rows are retrievers here, so that a row is one loop."""
    for r in range(len(scores)):
        if floors[r] < 0:
            for c in range(scores.shape[1]):
                out[r, c] = scores[r, c]
            continue
        total, floor = (totals[r] if totals[r] > 0 else _ONE), floors[r]
        for c in range(scores.shape[1]):
            out[r, c] = log(max(scores[r, c] / total, _ZERO) + floor)


@compiled
def blended(
    features: NDArray[np.float32], weights: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    for c in range(len(out)):
        out[c] = _ZERO
    for r in range(len(features)):
        for c in range(features.shape[1]):
            out[c] += weights[r] * features[r, c]


@compiled
def ranked(
    head: NDArray[np.int64],
    item: NDArray[np.int32],
    time: NDArray[np.int64],
    items: NDArray[np.int32],
    features: NDArray[np.float32],
    depth: int,
    score: NDArray[np.float32],
) -> None:
    """Correct the blend's scores of the `depth` best candidates; the others get -inf."""
    size = len(items)
    rows = np.empty(size, np.int32)
    best = 0
    if size > depth:
        keys, bins = np.empty(size, np.int64), np.empty(BINS, np.int64)
        for c in range(size):
            keys[c] = key(score[c])
        least, room = threshold(keys, size, depth, bins)
        for c in range(size):
            order = key(score[c])
            if order > least or (order == least and room > 0):
                room -= order == least
                rows[best] = c
                best += 1
            else:
                score[c] = -np.inf
    else:
        for c in range(size):
            rows[c] = c
        best = size
    chosen = np.empty(best, np.int32)
    of_chosen = np.empty((len(features), best), np.float32)
    for c in range(best):
        chosen[c] = items[rows[c]]
        for r in range(len(features)):
            of_chosen[r, c] = features[r, rows[c]]
    mean, scale = floats(head, MEAN), floats(head, SCALE)
    inputs = np.zeros((best, len(mean)), np.float32)
    ranking_features(head, item, time, chosen, of_chosen, inputs)
    for c in range(best):
        for k in range(len(mean)):
            inputs[c, k] = min(max((inputs[c, k] - mean[k]) * scale[k], -_FURTHEST), _FURTHEST)
    bias, out = floats(head, HIDDEN_BIAS), floats(head, OUT)
    active = np.empty((best, len(out)), np.float32)
    multiply(inputs, matrix(head, HIDDEN, len(out)), active)
    for c in range(best):
        correction = _ZERO
        for k in range(len(out)):
            correction += max(active[c, k] + bias[k], _ZERO) * out[k]
        score[rows[c]] += correction


@compiled
def ranking_features(
    head: NDArray[np.int64],
    item: NDArray[np.int32],
    time: NDArray[np.int64],
    items: NDArray[np.int32],
    by_retriever: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """The ranker's features, (candidates, features); `out` is 0 before."""
    retrievers, size = by_retriever.shape
    _by_retriever(by_retriever, out)
    column = 2 * retrievers
    numbers = matrix(head, NUMBERS, max(head[N_NUMBERS], 1))
    for c in range(size):
        for k in range(head[N_NUMBERS]):
            out[c, column + k] = numbers[items[c], k]
    column += head[N_NUMBERS]

    known = len(item)
    n_latest = min(known, LATEST)
    latest, weight = np.empty(n_latest, np.int32), np.empty(n_latest, np.float32)
    whole = _ZERO
    for k in range(n_latest):
        latest[k] = item[known - 1 - k]
        weight[k] = _ONE / np.float32(k + 1)
        whole += weight[k]
    for k in range(n_latest):
        weight[k] /= max(whole, _LEAST)
    n_items = head[N_ITEMS]
    all_codes, theirs = ints(head, CODES), np.empty(n_latest, np.int32)
    for a in range(head[N_CODES]):
        codes = all_codes[a * n_items : (a + 1) * n_items]
        for k in range(n_latest):
            theirs[k] = codes[latest[k]]
        for c in range(size):
            mine = codes[items[c]]
            if mine >= 0:
                out[c, column] = _weight_of(mine, theirs, weight)
        column += 1
    _against_history(floats(head, PRICE), latest, weight, items, out, column)
    length = np.float32(np.log1p(np.float64(min(known, LONGEST))))
    distinct = 0
    for k in range(n_latest):
        again = False
        for j in range(k):
            again |= latest[j] == latest[k]
        distinct += not again
    variety = np.float32(distinct / max(1, n_latest))
    pause = _ZERO
    if known > 1:
        pause = np.float32(np.log1p(max(0, time[known - 1] - time[known - 2]) / 1_000))
    for c in range(size):
        out[c, column + 3], out[c, column + 4], out[c, column + 5] = length, variety, pause


@compiled
def _by_retriever(by_retriever: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Each score below the best one's, and the reciprocal of its rank, 0 below `TOP`."""
    retrievers, size = by_retriever.shape
    first = np.empty(TOP, np.int32)
    for r in range(retrievers):
        of_one = by_retriever[r]
        top = np.float32(-np.inf)
        for c in range(size):
            top = max(top, of_one[c])
        for c in range(size):
            out[c, r] = of_one[c] - top
        for k in range(best_rows(of_one, size, min(TOP, size), first)):
            out[first[k], retrievers + r] = _ONE / np.float32(k + 1)


@compiled
def _against_history(
    price: NDArray[np.float32],
    latest: NDArray[np.int32],
    weight: NDArray[np.float32],
    items: NDArray[np.int32],
    out: NDArray[np.float32],
    column: int,
) -> None:
    """Whether a candidate was seen lately, and its price against the usual one."""
    spent, paid = _ZERO, _ZERO
    for k in range(len(latest)):
        if price[latest[k]] > 0:
            spent += price[latest[k]] * weight[k]
            paid += weight[k]
    for c in range(len(items)):
        again = _weight_of(items[c], latest, weight)
        # Each weight is above 0.
        out[c, column], out[c, column + 1] = again, np.float32(again > 0)
        if paid > 0 and price[items[c]] > 0:
            out[c, column + 2] = price[items[c]] - spent / paid


@compiled
def _weight_of(one: int, among: NDArray[np.int32], weight: NDArray[np.float32]) -> np.float32:
    """The weight of the places where a number is. Without branches it is a loop in lanes."""
    total = _ZERO
    for k in range(len(among)):
        total += weight[k] if among[k] == one else _ZERO
    return total
