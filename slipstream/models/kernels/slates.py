"""The filling of a slate, place by place: limits, diversity, calibration and exploration at once.

`services.serving.arranging` prepares the arrays, and its docstrings explain the parts. Candidates
are rows, in the order that they would have without any of this.
"""

import numpy as np
from numba import types
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import as_written, kernel
from slipstream.models.kernels.slate_values import (
    alike,
    approach,
    calibrated,
    count_in,
    fit,
    limit_of,
    limited,
)

# Places in `weights`.
DIVERSITY, CALIBRATION, EXPLORATION = range(3)


@kernel
def fill(
    tiers: NDArray[np.int64],
    cold: NDArray[np.uint8],
    pinned: NDArray[np.int64],
    limited_places: NDArray[np.int64],
    limited_keys: NDArray[np.int64],
    most: NDArray[np.int64],
    term_places: NDArray[np.int64],
    term_keys: NDArray[np.int64],
    vectors: NDArray[np.float32],
    shared_places: NDArray[np.int64],
    shared_codes: NDArray[np.int64],
    parts: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weights: NDArray[np.float64],
    draws: NDArray[np.float64],
    order: NDArray[np.int64],
    propensity: NDArray[np.float64],
    explored: NDArray[np.uint8],
    kept_out_by: NDArray[np.int64],
) -> int:
    """Choose the rows of a slate, whose values are entries of `slate_values`.

    Args:
        tiers: Tier of each row, ascending. A tier is used up before the next one begins.
        cold: Whether a row may be drawn for exploration.
        pinned: For each place the row that stands there, -1 for none.
        limited_places: Rows of the limited values.
        limited_keys: Limited values, which begin with the number of their limit.
        most: For each limit the greatest number of rows that share a value. Pinned rows count, and
            are not held back.
        term_places: Rows of the values that make rows alike.
        term_keys: These values.
        vectors: Vectors of length 1 of the rows, or 0 for a row without; (0, 0) for none at all.
        shared_places: Rows of the calibrated values.
        shared_codes: These values, as places in `wanted`.
        parts: The part of its row that each of these values is.
        wanted: Shares that the calibrated values should have.
        weights: See above; from 0 to 1.
        draws: Two numbers from 0 to 1 for each place: whether it explores, and which row it gets.
        order: Gets the rows.
        propensity: Gets the probability of each row, given those before it.
        explored: Gets whether each row was drawn.
        kept_out_by: Gets for each row the limit that keeps it out in the end, -1 for none.

    Returns:
        The length of the slate.
    """
    rows = len(tiers)
    limits = limited(limited_places, limited_keys, most, rows)
    likeness = alike(term_places, term_keys, vectors, rows)
    shares = calibrated(shared_places, shared_codes, parts, wanted, rows)
    relevance = _relevance(tiers)
    diversity, calibration = weights[DIVERSITY], weights[CALIBRATION]
    used, drawable = np.zeros(rows, np.uint8), np.empty(rows, np.int64)
    taken, size = 0, 0
    for place in range(len(pinned)):
        if pinned[place] >= 0:
            used[pinned[place]] = 1
            taken += 1
            count_in(pinned[place], limits, shares)
            if diversity > 0:
                approach(pinned[place], likeness)
    for place in range(len(pinned)):
        if pinned[place] >= 0:
            order[size], propensity[size], explored[size] = pinned[place], 1.0, 0
            size += 1
            continue
        best, highest, tier, cold_rows = -1, -np.inf, np.int64(0), 0
        for row in range(rows):
            if used[row] or limit_of(row, limits) >= 0:
                continue
            if best < 0:
                tier = tiers[row]
            elif tiers[row] != tier:
                break
            if cold[row]:
                drawable[cold_rows] = row
                cold_rows += 1
            value = (1 - calibration) * relevance[row]
            if calibration > 0:
                value += calibration * fit(row, shares, taken + 1)
            value = (1 - diversity) * value - diversity * likeness.closest[row]
            if value > highest:
                best, highest = row, value
        if best < 0:
            continue
        row, chance = best, weights[EXPLORATION] if cold_rows else 0.0
        explored[size] = draws[place, 0] < chance
        if explored[size]:
            row = drawable[min(np.int64(draws[place, 1] * cold_rows), cold_rows - 1)]
        order[size], propensity[size] = row, 1 - chance if row == best else 0.0
        if cold[row]:
            propensity[size] += chance / cold_rows
        size += 1
        used[row] = 1
        taken += 1
        count_in(row, limits, shares)
        if diversity > 0:
            approach(row, likeness)
    for row in range(rows):
        kept_out_by[row] = -1 if used[row] else limit_of(row, limits)
    return size


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
    *(_long, _long, _long),
    *(_long, _long, types.Array(types.float32, 2, "C")),
    *(_long, _long, _doubles, _doubles),
    *(_doubles, types.Array(types.float64, 2, "C")),
    *(_long, _doubles, _mask, _long),
)
