"""The values that a slate's candidates have: limited ones, those that make alike, calibrated ones.

Values are entries: the row `places[e]` has the value `keys[e]`, or none where that is -1. `ends`
divides entries into parts, whose keys do not compare.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot, log
from slipstream.models.kernels.compiler import as_written

# Share of the wanted shares that is mixed into a slate's, so that none is 0 (Steck 2018).
_SMOOTHING = 0.01
# The greatest divergence that this leaves.
_FARTHEST = -np.log(_SMOOTHING)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Values(NamedTuple):
    """Values by row and by value.

    Attributes:
        count: Number of different values.
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
        row: The row.
        limited: Limited values, a part for each limit.
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
        row: The row.
        terms: The terms that make rows alike.
        rarity: Weight of each term.
        totals: Weight of each row's terms.
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
    divergence.

    Args:
        shared: Calibrated values.
        wanted: Shares that they should have.
        given: How much of each the slate has.
        size: The slate's length, with the row.
        out: Gets the fall for each row.
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
