"""The entry: from encoded histories to ordered lists, in one call without the GIL."""

import numpy as np
from numba import types
from numpy.typing import NDArray

from slipstream.models.kernels import ordering
from slipstream.models.kernels.arithmetic import exp
from slipstream.models.kernels.candidates import scored, scores_of, union
from slipstream.models.kernels.compiler import compiled, kernel
from slipstream.models.kernels.memory import floats
from slipstream.models.kernels.selection import best_rows

# Places in `options`: items that each retriever proposes; candidates that the ranker orders, 0 for
# none; whether the items are given; length of the networks' vectors; place of the first network
# among the retrievers, -1 for none.
LIMIT, DEPTH, GIVEN, STATE, NETWORK = range(5)


@kernel
def recommend(
    table: NDArray[np.int64],
    rules: NDArray[np.float64],
    place: NDArray[np.int32],
    total: NDArray[np.float64],
    bits: NDArray[np.int64],
    keys: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    all_item: NDArray[np.int32],
    all_weight: NDArray[np.float32],
    all_time: NDArray[np.int64],
    all_excluded: NDArray[np.int32],
    ends: NDArray[np.int64],
    allowed: NDArray[np.uint8],
    weights: NDArray[np.float32],
    required: NDArray[np.uint8],
    options: NDArray[np.int64],
    listed: NDArray[np.int32],
    probability: NDArray[np.float32],
    source: NDArray[np.int32],
    states: NDArray[np.float32],
) -> tuple[
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
]:
    """The lists of several histories, one after the other, each as if it were alone.

    Args:
        table: Addresses of the model's arrays, see `slipstream.recommender.plan`.
        rules: The model's numbers, a row for each row of the table.
        place: Room over the catalogue, with -1 everywhere, before and after.
        total: The same, with 0.
        bits: The same, a set of items, see `selection.words`.
        keys: Room over the catalogue.
        items: Room for each retriever's items.
        scores: Room for each retriever's scores.
        all_item: Items of one history after the other, each oldest first.
        all_excluded: Items that may not be shown; where items are given, these, ascending.
        ends: For each history its end among the items and among the excluded, (histories, 2).
        required: Retrievers of which one must have a say in a candidate; empty for any.
        options: See above.
        listed: Gets the items, (histories, length); -1 where a list is shorter.
        probability: Gets each one's share of the candidates' likelihood.
        source: Gets the retriever with the largest part of the score.
        states: Gets the first network's state, (histories, vector); zeros where no network read the
            history.

    Returns:
        The candidates of the last history, ascending; their scores and the blend's features,
        (retrievers, items); the sums of scores; and what orders them, -inf for those that the
        ranker did not look at.

    Raises:
        IndexError: An item is not in the catalogue.
    """
    head, n_items = table[0], len(place)
    for k in range(len(all_item)):
        if not 0 <= all_item[k] < n_items:
            raise IndexError("an item of a history is not in the catalogue")
    for k in range(len(all_excluded)):
        if not 0 <= all_excluded[k] < n_items:
            raise IndexError("an excluded item is not in the catalogue")
    state = np.empty((len(items), options[STATE]), np.float32)
    begin, begin_excluded = np.int64(0), np.int64(0)
    chosen, totals, score = np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32)
    raw, features = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    for h in range(len(ends)):
        end, end_excluded = ends[h, 0], ends[h, 1]
        item, weight, time = all_item[begin:end], all_weight[begin:end], all_time[begin:end]
        excluded = all_excluded[begin_excluded:end_excluded]
        begin, begin_excluded = end, end_excluded
        sizes, totals, normaliser = scored(
            table, rules, item, weight, time, total, bits, items, scores, state
        )
        if options[GIVEN]:
            chosen = excluded
        else:
            chosen = union(
                table, rules, sizes, items, scores, state, options[LIMIT], place, allowed, excluded,
                bits, keys,
            )  # fmt: skip
        raw = scores_of(table, sizes, items, scores, state, normaliser, chosen, place)
        if len(required):
            chosen, raw = _supported(chosen, raw, required)
        features = np.empty(raw.shape, np.float32)
        ordering.log_shares(raw, totals, floats(head, ordering.FLOORS), features)
        score = np.empty(len(chosen), np.float32)
        ordering.blended(features, weights, score)
        if options[DEPTH] and len(chosen):
            ordering.ranked(head, item, time, chosen, features, options[DEPTH], score)
        _write(chosen, features, score, weights, listed[h], probability[h], source[h])
        states[h] = 0
        if options[NETWORK] >= 0 and len(item):
            states[h] = state[options[NETWORK]]
    return chosen, raw, features, totals, score


@compiled
def _supported(
    chosen: NDArray[np.int32], raw: NDArray[np.float32], required: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The candidates that one of the required retrievers gives a score above 0."""
    rows = np.empty(len(chosen), np.int32)
    kept = 0
    for c in range(len(chosen)):
        for r in range(len(required)):
            if required[r] and raw[r, c] > 0:
                rows[kept] = c
                kept += 1
                break
    items, scores = np.empty(kept, np.int32), np.empty((len(raw), kept), np.float32)
    for k in range(kept):
        items[k] = chosen[rows[k]]
        for r in range(len(raw)):
            scores[r, k] = raw[r, rows[k]]
    return items, scores


@compiled
def _write(
    chosen: NDArray[np.int32],
    features: NDArray[np.float32],
    score: NDArray[np.float32],
    weights: NDArray[np.float32],
    listed: NDArray[np.int32],
    probability: NDArray[np.float32],
    source: NDArray[np.int32],
) -> None:
    rows = np.empty(len(listed), np.int32)
    size = best_rows(score, len(chosen), len(listed), rows)
    for k in range(size, len(listed)):
        listed[k] = -1
    if not size:
        return
    top, whole = score[rows[0]], 0.0
    for c in range(len(chosen)):
        whole += exp(score[c] - top)
    means = np.empty(len(features))
    for r in range(len(features)):
        mean = 0.0
        for c in range(len(chosen)):
            mean += features[r, c]
        means[r] = mean / len(chosen)
    for k in range(size):
        row, largest = rows[k], -np.inf
        listed[k] = chosen[row]
        probability[k] = exp(score[row] - top) / whole
        for r in range(len(features)):
            part = (features[r, row] - means[r]) * weights[r]
            if part > largest:
                largest, source[k] = part, r


_row = types.Array(types.float32, 1, "C")
_rows = types.Array(types.float32, 2, "C")
_numbers = types.Array(types.int32, 1, "C")
_number_rows = types.Array(types.int32, 2, "C")
_mask = types.Array(types.uint8, 1, "C")
_long = types.Array(types.int64, 1, "C")
_long_rows = types.Array(types.int64, 2, "C")
_doubles = types.Array(types.float64, 1, "C")
RECOMMEND = (
    *(_long_rows, types.Array(types.float64, 2, "C")),
    *(_numbers, _doubles, _long, _long, _number_rows, _rows),
    *(_numbers, _row, _long, _numbers, _long_rows),
    *(_mask, _row, _mask, _long),
    *(_number_rows, _rows, _number_rows, _rows),
)
