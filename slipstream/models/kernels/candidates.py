"""The candidates of one history: the best items of each retriever, with all retrievers' scores."""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels import nearest, network, retrieval
from slipstream.models.kernels.arithmetic import exp
from slipstream.models.kernels.compiler import compiled, in_place
from slipstream.models.kernels.memory import floats, ints, longs
from slipstream.models.kernels.selection import BINS, add, drain, key, threshold

# Kinds of retrievers, the first number of their row of the table.
POPULARITY, VOTES, WHOLE_VOTES, FULL_ROWS, SESSIONS, NETWORK, OTHER = range(7)
# Where their arrays are in the row.
FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH = 2, 4, 6, 8, 10, 12
WIDTH = 16
# Size of a retriever that scores every item of the catalogue, one after the other.
_EVERY = -1
# What `place` says of an item that is no candidate, and of one that must not become one.
FREE, EXCLUDED = np.int32(-1), np.int32(-2)
# Most events that vote, see `neighbours.HistoryWeighting`.
MOST_EVENTS = 4_096
# Where a mask leaves a retriever too few items: so few allowed ones are compared one by one.
_FEW = 10_000


@in_place
def scored(
    table: NDArray[np.int64],
    rules: NDArray[np.float64],
    item: NDArray[np.int32],
    weight: NDArray[np.float32],
    time: NDArray[np.int64],
    total: NDArray[np.float64],
    bits: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    state: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Each retriever's items and scores in its row of `items` and `scores`, of a network its state.

    Returns:
        The number of each one's items, the sum of its scores, and of a network the normaliser.
    """
    retrievers = len(items)
    sizes, totals = np.empty(retrievers, np.int64), np.empty(retrievers, np.float32)
    normaliser = np.empty(retrievers, np.float32)
    voter = np.empty(MOST_EVENTS, np.int32)
    strength = np.empty(MOST_EVENTS, np.float32)
    for r in range(retrievers):
        row, rule = table[r + 1], rules[r + 1]
        kind, sizes[r] = row[0], 0
        if kind == POPULARITY:
            share, popular = floats(row, FIRST), ints(row, SECOND)
            sizes[r] = len(popular)
            for k in range(len(popular)):
                items[r, k], scores[r, k] = popular[k], share[popular[k]]
        elif kind == OTHER:
            known, given = ints(row, FIRST), floats(row, SECOND)
            sizes[r] = len(known)
            for k in range(len(known)):
                items[r, k], scores[r, k] = known[k], given[k]
        elif kind in (VOTES, WHOLE_VOTES, FULL_ROWS):
            size = retrieval.voters(item, weight, time, rule, voter, strength)
            if kind == WHOLE_VOTES:
                retrieval.votes_over_all(floats(row, FIRST), voter, strength, size, scores[r])
                sizes[r] = _EVERY
            elif kind == FULL_ROWS:
                sizes[r] = retrieval.votes_by_full_rows(
                    floats(row, FIRST), voter, strength, size, total, items[r], scores[r]
                )
            else:
                sizes[r] = retrieval.votes(
                    floats(row, FIRST), ints(row, SECOND), longs(row, THIRD),
                    voter, strength, size, total, bits, items[r], scores[r],
                )  # fmt: skip
        elif kind == SESSIONS:
            sizes[r] = retrieval.session_votes(
                ints(row, FIRST), longs(row, SECOND), ints(row, THIRD), longs(row, FOURTH),
                longs(row, FIFTH), floats(row, SIXTH), rule, item, total, bits, items[r], scores[r],
            )  # fmt: skip
        elif len(item):
            network.state(row, rule, item, weight, time, state[r])
            sizes[r], normaliser[r] = nearest.probabilities(
                row, rule, state[r], items[r], scores[r]
            )
        size = scores.shape[1] if sizes[r] == _EVERY else sizes[r]
        whole = 0.0
        for k in range(size):
            whole += scores[r, k]
        totals[r] = whole
    return sizes, totals, normaliser


@compiled
def propose(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    size: int,
    limit: int,
    allowed: NDArray[np.uint8],
    keys: NDArray[np.int64],
    bins: NDArray[np.int64],
    bits: NDArray[np.int64],
) -> None:
    """Put the `limit` best of a retriever's allowed items into the set."""
    every = size == _EVERY
    count, shown = (len(scores) if every else size), np.int64(0)
    for k in range(count):
        if allowed[k if every else items[k]]:
            keys[shown] = key(scores[k])
            shown += 1
    least, room = np.int64(0), np.int64(limit)
    if shown > limit:
        least, room = threshold(keys, shown, limit, bins)
    for k in range(count):
        one = k if every else items[k]
        if allowed[one]:
            order = key(scores[k])
            if order > least:
                add(bits, one)
            elif order == least and room > 0:
                add(bits, one)
                room -= 1


@compiled
def union(
    table: NDArray[np.int64],
    rules: NDArray[np.float64],
    sizes: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    state: NDArray[np.float32],
    limit: int,
    place: NDArray[np.int32],
    allowed: NDArray[np.uint8],
    excluded: NDArray[np.int32],
    bits: NDArray[np.int64],
    keys: NDArray[np.int64],
) -> NDArray[np.int32]:
    """The best items of all retrievers that may be shown, each once, ascending."""
    n_items, depth = scores.shape[1], limit + len(excluded)
    bins = np.empty(BINS, np.int64)
    few = np.empty(0, np.int32)
    counted = False
    for r in range(len(sizes)):
        row, kind = table[r + 1], table[r + 1, 0]
        further = sizes[r] > 0 and kind in (POPULARITY, NETWORK)
        if further and _shown(items[r], sizes[r], allowed) < depth:
            if not counted:
                few, counted = _allowed_items(allowed, n_items), True
            if kind == NETWORK:
                _propose_near(row, rules[r + 1], state[r], few, depth, allowed, keys, bins, bits)
            elif len(few):
                share = floats(row, FIRST)
                for k in range(len(few)):
                    scores[r, k] = share[few[k]]
                propose(few, scores[r], len(few), depth, allowed, keys, bins, bits)
            else:
                _propose_in_order(ints(row, THIRD), depth, allowed, bits)
        elif kind == POPULARITY:
            _propose_in_order(ints(row, THIRD), depth, allowed, bits)
        else:
            propose(items[r], scores[r], sizes[r], depth, allowed, keys, bins, bits)
    for k in range(len(excluded)):
        place[excluded[k]] = EXCLUDED
    chosen = np.empty(min(2 * depth * len(sizes), n_items), np.int32)
    size, kept = drain(bits, chosen), 0
    for k in range(size):
        if place[chosen[k]] == FREE:
            chosen[kept] = chosen[k]
            kept += 1
    for k in range(len(excluded)):
        place[excluded[k]] = FREE
    return chosen[:kept]


@compiled
def _shown(items: NDArray[np.int32], size: int, allowed: NDArray[np.uint8]) -> int:
    shown = 0
    for k in range(size):
        shown += allowed[items[k]]
    return shown


@compiled
def _propose_in_order(
    order: NDArray[np.int32], depth: int, allowed: NDArray[np.uint8], bits: NDArray[np.int64]
) -> None:
    """Propose the first allowed items of an order."""
    found = 0
    for k in range(len(order)):
        if found == depth:
            break
        if allowed[order[k]]:
            add(bits, order[k])
            found += 1


@compiled
def _allowed_items(allowed: NDArray[np.uint8], n_items: int) -> NDArray[np.int32]:
    """The allowed items, where they are few; none where they are many."""
    count = 0
    for i in range(n_items):
        count += allowed[i]
    few = np.empty(count if count <= _FEW else 0, np.int32)
    kept = 0
    if len(few):
        for i in range(n_items):
            if allowed[i]:
                few[kept] = i
                kept += 1
    return few


@compiled
def _propose_near(
    row: NDArray[np.int64],
    rule: NDArray[np.float64],
    state: NDArray[np.float32],
    few: NDArray[np.int32],
    depth: int,
    allowed: NDArray[np.uint8],
    keys: NDArray[np.int64],
    bins: NDArray[np.int64],
    bits: NDArray[np.int64],
) -> None:
    """Propose those of the allowed items, or of many in the likeliest clusters, that fit best."""
    near = few if len(few) else nearest.allowed_items(row, rule, state, allowed, _FEW)
    fit = np.empty(len(near), np.float32)
    nearest.logits_of(row, state, near, fit)
    propose(near, fit, len(near), depth, allowed, keys, bins, bits)


@compiled
def scores_of(
    table: NDArray[np.int64],
    sizes: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    state: NDArray[np.float32],
    normaliser: NDArray[np.float32],
    chosen: NDArray[np.int32],
    place: NDArray[np.int32],
) -> NDArray[np.float32]:
    """The scores of these items by every retriever, (retrievers, items)."""
    result = np.zeros((len(sizes), len(chosen)), np.float32)
    for c in range(len(chosen)):
        place[chosen[c]] = c
    for r in range(len(sizes)):
        row, out = table[r + 1], result[r]
        if row[0] == POPULARITY:
            share = floats(row, FIRST)
            for c in range(len(chosen)):
                out[c] = share[chosen[c]]
        elif sizes[r] == _EVERY:
            for c in range(len(chosen)):
                out[c] = scores[r, chosen[c]]
        elif row[0] == NETWORK and sizes[r]:
            nearest.logits_of(row, state[r], chosen, out)
            for c in range(len(chosen)):
                out[c] = exp(out[c] - normaliser[r])
        else:
            for k in range(sizes[r]):
                at = place[items[r, k]]
                if at >= 0:
                    out[at] = scores[r, k]
    for c in range(len(chosen)):
        place[chosen[c]] = FREE
    return result
