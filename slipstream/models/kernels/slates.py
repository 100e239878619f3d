"""The filling of a slate, place by place: limits, diversity, calibration and exploration at once.

`slipstream.slates.arranging` prepares the arrays, and its docstrings explain the parts. Candidates
are rows, in the order that they would have without any of this.

Candidates have values: limited ones, those that make alike, calibrated ones. They are entries: the
row `places[e]` has the value `keys[e]`, or none where that is -1. `ends` divides entries into
parts, whose keys do not compare.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot, log
from slipstream.models.kernels.compiler import as_written, kernel

# Share of the wanted shares that is mixed into a slate's, so that none is 0 (Steck 2018).
_SMOOTHING = 0.01
# The greatest divergence that this leaves.
_FARTHEST = -np.log(_SMOOTHING)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Values(NamedTuple):
    """Values by row and by value.

    Attributes:
        begins: Where each row's entries begin in `values`.
        values: The values of one row after the other.
        row_begins: Where each value's entries begin in `rows`.
        rows: The rows of one value after the other.
        parts: The part of each value.
    """

    count: int
    begins: NDArray[np.int64]
    values: NDArray[np.int64]
    row_begins: NDArray[np.int64]
    rows: NDArray[np.int64]
    parts: NDArray[np.int64]


@as_written
def values_of(
    places: NDArray[np.int64], keys: NDArray[np.int64], ends: NDArray[np.int64], rows: int
) -> Values:
    """Number the different values, and order the entries by row and by value."""
    room = 64
    while room < 2 * len(keys):
        room *= 2
    slots, firsts = np.full(room, -1, np.int64), np.empty(len(keys), np.int64)
    numbers, parts = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    begins = np.zeros(rows + 1, np.int64)
    count, begin = 0, np.int64(0)
    for part in range(len(ends)):
        for e in range(begin, ends[part]):
            numbers[e] = -1
            if keys[e] == -1:
                continue
            hashed = (np.uint64(keys[e]) + np.uint64(part)) * _GOLDEN
            slot = np.int64(hashed >> _HALF) & (room - 1)
            while slots[slot] >= 0 and (
                keys[firsts[slots[slot]]] != keys[e] or parts[slots[slot]] != part
            ):
                slot = (slot + 1) & (room - 1)
            if slots[slot] < 0:
                slots[slot], firsts[count], parts[count] = count, e, part
                count += 1
            numbers[e] = slots[slot]
            begins[places[e] + 1] += 1
        begin = ends[part]
    row_begins = np.zeros(count + 1, np.int64)
    for e in range(len(keys)):
        if numbers[e] >= 0:
            row_begins[numbers[e] + 1] += 1
    for row in range(rows):
        begins[row + 1] += begins[row]
    for value in range(count):
        row_begins[value + 1] += row_begins[value]
    values, of_values = np.empty(begins[rows], np.int64), np.empty(begins[rows], np.int64)
    at, at_value = begins.copy(), row_begins.copy()
    for e in range(len(keys)):
        value, row = numbers[e], places[e]
        if value >= 0:
            values[at[row]], of_values[at_value[value]] = value, row
            at[row] += 1
            at_value[value] += 1
    return Values(count, begins, values, row_begins, of_values, parts)


@as_written
def close(
    row: int,
    limited: Values,
    most: NDArray[np.int64],
    counts: NDArray[np.int64],
    closed_by: NDArray[np.int64],
) -> None:
    """Count a row that comes into the slate, and close the rows for which a limit leaves no room.

    Args:
        most: For each limit the greatest number of rows that share a value.
        counts: Rows of the slate with each value.
        closed_by: For each row the first limit that closed it, -1 for none.
    """
    for at in range(limited.begins[row], limited.begins[row + 1]):
        value = limited.values[at]
        limit = limited.parts[value]
        counts[value] += 1
        if counts[value] == most[limit]:
            for place in range(limited.row_begins[value], limited.row_begins[value + 1]):
                if closed_by[limited.rows[place]] < 0:
                    closed_by[limited.rows[place]] = limit


@as_written
def rarities(terms: Values, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weight of each term among the rows, and the sum of each row's.

    A term of every row tells nothing apart, and one of a single row makes no two rows alike.
    """
    rarity, totals = np.zeros(terms.count), np.zeros(rows)
    for term in range(terms.count):
        had = terms.row_begins[term + 1] - terms.row_begins[term]
        if had > 1:
            rarity[term] = np.log(rows / had)
    for row in range(rows):
        for at in range(terms.begins[row], terms.begins[row + 1]):
            totals[row] += rarity[terms.values[at]]
    return rarity, totals


@as_written
def approach(
    row: int,
    terms: Values,
    rarity: NDArray[np.float64],
    totals: NDArray[np.float64],
    vectors: NDArray[np.float32],
    common: NDArray[np.float64],
    closest: NDArray[np.float64],
) -> None:
    """Raise each row's likeness to the slate, now that a row is in it.

    Likeness is the rarity of the terms in common by that of all terms of both (weighted Jaccard),
    or the vectors' cosine, or the mean of the two where both are known.

    Args:
        rarity: Weight of each term.
        vectors: Vectors of length 1 or 0 of the rows; (0, 0) for none.
        common: Room over the rows, 0 before and after.
        closest: Each row's likeness to the slate.
    """
    for at in range(terms.begins[row], terms.begins[row + 1]):
        term = terms.values[at]
        for place in range(terms.row_begins[term], terms.row_begins[term + 1]):
            common[terms.rows[place]] += rarity[term]
    for other in range(len(closest)):
        union = totals[row] + totals[other] - common[other]
        likeness, known = 0.0, 0
        if union > 0:
            likeness = common[other] / union
            known = 1
        common[other] = 0.0
        if len(vectors):
            cosine = dot(vectors[row], vectors[other])
            if cosine != 0:
                likeness += max(0.0, cosine)
                known += 1
        if known:
            closest[other] = max(closest[other], likeness / known)


@as_written
def wanted_shares(shared: Values, rows: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each value in a history, whose rows come after the others; all 0 for none."""
    wanted, total = np.zeros(shared.count), 0.0
    for past in range(len(weights)):
        begin, end = shared.begins[rows + past], shared.begins[rows + past + 1]
        for at in range(begin, end):
            wanted[shared.values[at]] += weights[past] / (end - begin)
            total += weights[past] / (end - begin)
    if total > 0:
        for value in range(shared.count):
            wanted[value] /= total
    return wanted


@as_written
def give(row: int, shared: Values, given: NDArray[np.float64]) -> None:
    """Count the calibrated values of a row that comes into the slate."""
    begin, end = shared.begins[row], shared.begins[row + 1]
    for at in range(begin, end):
        given[shared.values[at]] += 1 / (end - begin)


@as_written
def fits(
    shared: Values,
    wanted: NDArray[np.float64],
    given: NDArray[np.float64],
    size: int,
    out: NDArray[np.float64],
) -> None:
    """The fall of the divergence KL(wanted || given) of a slate by each row, were it the next.

    Against the same slate with a row that has no calibrated value, as a part of the greatest
    divergence. `given` tells how much of each value the slate has; `size` counts the row, too.
    """
    scale = (1 - _SMOOTHING) / size
    for row in range(len(out)):
        begin, end = shared.begins[row], shared.begins[row + 1]
        gain = 0.0
        for at in range(begin, end):
            value = shared.values[at]
            if wanted[value] > 0:
                before = scale * given[value] + _SMOOTHING * wanted[value]
                rise = scale / ((end - begin) * before)
                gain += wanted[value] * log(np.float32(1 + rise))
        out[row] = gain / _FARTHEST


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
    """Choose the rows of a slate, whose values are entries.

    Args:
        tiers: Tier of each row, ascending. A tier is used up before the next one begins.
        cold: Whether a row may be drawn for exploration.
        pinned: For each place the row that stands there, -1 for none.
        limited_places: Rows of the limited values.
        limited_ends: The end of each limit's.
        most: For each limit the greatest number of rows that share a value. Pinned rows count, and
            are not held back.
        term_places: Rows of the values that make rows alike.
        term_ends: The end of each attribute's.
        vectors: Vectors of length 1 of the rows, or 0 for a row without; (0, 0) for none at all.
        shared_places: Rows of the calibrated values. The history's rows come after the others.
        shared_keys: These values.
        past: How much each row of the history counts.
        weights: See above; from 0 to 1.
        draws: Two numbers from 0 to 1 for each place: whether it explores, and which row it gets.
        propensity: Gets the probability of each row, given those before it.
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
