"""The filling of a slate, place by place: limits, diversity, calibration and exploration at once.

`slipstream.slates.arranging` prepares the arrays, and its docstrings explain the parts. Candidates
are rows, in the order that they would have without any of this.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import as_written, kernel
from slipstream.models.kernels.slate_values import (
    Values,
    approach,
    close,
    fits,
    give,
    rarities,
    values_of,
    wanted_shares,
)

# Places in `weights`.
DIVERSITY, CALIBRATION, EXPLORATION = range(3)


class _State(NamedTuple):
    """What the rows of a slate change, with the values by which they do."""

    limited: Values
    most: NDArray[np.int64]
    counts: NDArray[np.int64]
    closed_by: NDArray[np.int64]
    shared: Values
    given: NDArray[np.float64]
    terms: Values
    rarity: NDArray[np.float64]
    totals: NDArray[np.float64]
    vectors: NDArray[np.float32]
    common: NDArray[np.float64]
    closest: NDArray[np.float64]
    is_diverse: bool


@kernel
def fill(
    tiers: NDArray[np.int64],
    cold: NDArray[np.uint8],
    pinned: NDArray[np.int64],
    limited_places: NDArray[np.int64],
    limited_keys: NDArray[np.int64],
    limited_ends: NDArray[np.int64],
    most: NDArray[np.int64],
    term_places: NDArray[np.int64],
    term_keys: NDArray[np.int64],
    term_ends: NDArray[np.int64],
    vectors: NDArray[np.float32],
    shared_places: NDArray[np.int64],
    shared_keys: NDArray[np.int64],
    shared_ends: NDArray[np.int64],
    past: NDArray[np.float64],
    weights: NDArray[np.float64],
    draws: NDArray[np.float64],
    order: NDArray[np.int64],
    propensity: NDArray[np.float64],
    explored: NDArray[np.uint8],
    closed_by: NDArray[np.int64],
) -> int:
    """Choose the rows of a slate, whose values are entries of `slate_values`.

    Args:
        tiers: Tier of each row, ascending. A tier is used up before the next one begins.
        cold: Whether a row may be drawn for exploration.
        pinned: For each place the row that stands there, -1 for none.
        limited_places: Rows of the limited values.
        limited_keys: These values.
        limited_ends: The end of each limit's.
        most: For each limit the greatest number of rows that share a value. Pinned rows count, and
            are not held back.
        term_places: Rows of the values that make rows alike.
        term_keys: These values.
        term_ends: The end of each attribute's.
        vectors: Vectors of length 1 of the rows, or 0 for a row without; (0, 0) for none at all.
        shared_places: Rows of the calibrated values. The history's rows come after the others.
        shared_keys: These values.
        shared_ends: Their number.
        past: How much each row of the history counts.
        weights: See above; from 0 to 1.
        draws: Two numbers from 0 to 1 for each place: whether it explores, and which row it gets.
        order: Gets the rows.
        propensity: Gets the probability of each row, given those before it.
        explored: Gets whether each row was drawn.
        closed_by: Gets for each row the first limit that left no room for it, -1 for none.

    Returns:
        The length of the slate.
    """
    rows = len(tiers)
    limited = values_of(limited_places, limited_keys, limited_ends, rows)
    terms = values_of(term_places, term_keys, term_ends, rows)
    shared = values_of(shared_places, shared_keys, shared_ends, rows + len(past))
    counts, given = np.zeros(limited.count, np.int64), np.zeros(shared.count)
    rarity, totals = rarities(terms, rows)
    common, closest = np.zeros(rows), np.zeros(rows)
    diversity = weights[DIVERSITY]
    state = _State(
        limited, most, counts, closed_by, shared, given,
        terms, rarity, totals, vectors, common, closest, diversity > 0,
    )  # fmt: skip
    wanted, fit = wanted_shares(shared, rows, past), np.zeros(rows)
    calibration = weights[CALIBRATION] if wanted.any() else 0.0
    relevance = _relevance(tiers)
    used, drawable = np.zeros(rows, np.uint8), np.empty(rows, np.int64)
    closed_by[:] = -1
    taken, size = 0, 0
    for place in range(len(pinned)):
        if pinned[place] >= 0:
            _take(pinned[place], state)
            used[pinned[place]] = 1
            taken += 1
    for place in range(len(pinned)):
        row, chance, cold_rows = pinned[place], 1.0, 0
        explored[size] = 0
        if row < 0:
            if calibration > 0:
                fits(shared, wanted, given, taken + 1, fit)
            best, highest, tier = -1, -np.inf, np.int64(0)
            for each in range(rows):
                if used[each] or closed_by[each] >= 0:
                    continue
                if best < 0:
                    tier = tiers[each]
                elif tiers[each] != tier:
                    break
                if cold[each]:
                    drawable[cold_rows] = each
                    cold_rows += 1
                value = (1 - calibration) * relevance[each] + calibration * fit[each]
                value = (1 - diversity) * value - diversity * closest[each]
                if value > highest:
                    best, highest = each, value
            if best < 0:
                continue
            row, share = best, weights[EXPLORATION] if cold_rows else 0.0
            if draws[place, 0] < share:
                row = drawable[min(np.int64(draws[place, 1] * cold_rows), cold_rows - 1)]
                explored[size] = 1
            chance = 1 - share if row == best else 0.0
            if cold[row]:
                chance += share / cold_rows
            _take(row, state)
            used[row] = 1
            taken += 1
        order[size], propensity[size] = row, chance
        size += 1
    return size


@as_written
def _take(row: int, state: _State) -> None:
    """Take notice of a row that comes into the slate."""
    close(row, state.limited, state.most, state.counts, state.closed_by)
    give(row, state.shared, state.given)
    if state.is_diverse:
        approach(
            row, state.terms, state.rarity, state.totals, state.vectors, state.common, state.closest
        )


@as_written
def _relevance(tiers: NDArray[np.int64]) -> NDArray[np.float64]:
    """From 1 for the first row of a tier down to above 0 for its last, in equal steps."""
    relevance, begin = np.empty(len(tiers)), 0
    for row in range(len(tiers)):
        if row + 1 == len(tiers) or tiers[row + 1] != tiers[row]:
            for each in range(begin, row + 1):
                relevance[each] = (row + 1 - each) / (row + 1 - begin)
            begin = row + 1
    return relevance


_long = types.Array(types.int64, 1, "C")
_mask = types.Array(types.uint8, 1, "C")
_doubles = types.Array(types.float64, 1, "C")
FILL = (
    *(_long, _mask, _long),
    *(_long, _long, _long, _long),
    *(_long, _long, _long, types.Array(types.float32, 2, "C")),
    *(_long, _long, _long, _doubles),
    *(_doubles, types.Array(types.float64, 2, "C")),
    *(_long, _doubles, _mask, _long),
)
