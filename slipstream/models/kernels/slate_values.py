"""The values that a slate's candidates have: limited ones, those that make alike, calibrated ones.

Values are entries: the row `places[e]` has the value `keys[e]`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import dot
from slipstream.models.kernels.compiler import as_written

# A key of a limited value has the limit's number from this bit on.
LIMIT_SHIFT = 36
# Share of the wanted shares that is mixed into a slate's, so that none is 0 (Steck 2018).
_SMOOTHING = 0.01
# The greatest divergence that this leaves.
_FARTHEST = -np.log(_SMOOTHING)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Limited(NamedTuple):
    """Values of which a slate has few rows, and how many it has."""

    begins: NDArray[np.int64]
    entries: NDArray[np.int64]
    keys: NDArray[np.int64]
    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    most: NDArray[np.int64]


class Alike(NamedTuple):
    """Terms and vectors that make rows alike, and how close each row is to a slate."""

    begins: NDArray[np.int64]
    entries: NDArray[np.int64]
    terms: NDArray[np.int64]
    rarity: NDArray[np.float64]
    totals: NDArray[np.float64]
    marked: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    closest: NDArray[np.float64]


class Calibrated(NamedTuple):
    """Values of which a slate should have the shares `wanted`, and how much of each it has."""

    begins: NDArray[np.int64]
    entries: NDArray[np.int64]
    codes: NDArray[np.int64]
    parts: NDArray[np.float64]
    wanted: NDArray[np.float64]
    given: NDArray[np.float64]


@as_written
def limited(
    places: NDArray[np.int64], keys: NDArray[np.int64], most: NDArray[np.int64], rows: int
) -> Limited:
    begins, entries = _by_row(places, rows)
    values, count = _numbered(keys)
    return Limited(begins, entries, keys, values, np.zeros(count, np.int64), most)


@as_written
def alike(
    places: NDArray[np.int64], keys: NDArray[np.int64], vectors: NDArray[np.float32], rows: int
) -> Alike:
    """The terms with their rarity among the rows.

    A term of every row tells nothing apart, and one of a single row makes no two rows alike.
    """
    begins, entries = _by_row(places, rows)
    terms, count = _numbered(keys)
    had, rarity, totals = np.zeros(count, np.int64), np.zeros(count), np.zeros(rows)
    for e in range(len(terms)):
        had[terms[e]] += 1
    for t in range(count):
        if had[t] > 1:
            rarity[t] = np.log(rows / had[t])
    for e in range(len(terms)):
        totals[places[e]] += rarity[terms[e]]
    marked = np.zeros(count, np.uint8)
    return Alike(begins, entries, terms, rarity, totals, marked, vectors, np.zeros(rows))


@as_written
def calibrated(
    places: NDArray[np.int64],
    codes: NDArray[np.int64],
    parts: NDArray[np.float64],
    wanted: NDArray[np.float64],
    rows: int,
) -> Calibrated:
    begins, entries = _by_row(places, rows)
    return Calibrated(begins, entries, codes, parts, wanted, np.zeros(len(wanted)))


@as_written
def limit_of(row: int, limited: Limited) -> int:
    """The first limit that leaves no room for a row; -1 for none."""
    for at in range(limited.begins[row], limited.begins[row + 1]):
        entry = limited.entries[at]
        limit = limited.keys[entry] >> LIMIT_SHIFT
        if limited.counts[limited.values[entry]] >= limited.most[limit]:
            return limit
    return -1


@as_written
def count_in(row: int, limited: Limited, calibrated: Calibrated) -> None:
    """Count the values of a row that comes into the slate."""
    for at in range(limited.begins[row], limited.begins[row + 1]):
        limited.counts[limited.values[limited.entries[at]]] += 1
    for at in range(calibrated.begins[row], calibrated.begins[row + 1]):
        entry = calibrated.entries[at]
        calibrated.given[calibrated.codes[entry]] += calibrated.parts[entry]


@as_written
def fit(row: int, calibrated: Calibrated, size: int) -> float:
    """The fall of the divergence KL(wanted || given) of a slate of `size` rows with this one.

    Against the same slate with a row that has no calibrated value, as a part of the greatest
    divergence.
    """
    gain = 0.0
    for at in range(calibrated.begins[row], calibrated.begins[row + 1]):
        entry = calibrated.entries[at]
        code = calibrated.codes[entry]
        wanted, given = calibrated.wanted[code], calibrated.given[code]
        before = (1 - _SMOOTHING) * given / size + _SMOOTHING * wanted
        after = (1 - _SMOOTHING) * (given + calibrated.parts[entry]) / size + _SMOOTHING * wanted
        gain += wanted * np.log(after / before)
    return gain / _FARTHEST


@as_written
def approach(row: int, alike: Alike) -> None:
    """Raise each row's likeness to the slate, now that a row is in it.

    Likeness is the rarity of the terms in common by that of all terms of both (weighted Jaccard),
    or the vectors' cosine, or the mean of the two where both are known.
    """
    begins, entries, terms = alike.begins, alike.entries, alike.terms
    for at in range(begins[row], begins[row + 1]):
        alike.marked[terms[entries[at]]] = 1
    for other in range(len(alike.closest)):
        likeness, known, common = 0.0, 0, 0.0
        for at in range(begins[other], begins[other + 1]):
            term = terms[entries[at]]
            if alike.marked[term]:
                common += alike.rarity[term]
        union = alike.totals[row] + alike.totals[other] - common
        if union > 0:
            likeness += common / union
            known += 1
        if len(alike.vectors):
            cosine = dot(alike.vectors[row], alike.vectors[other])
            if cosine != 0:
                likeness += max(0.0, cosine)
                known += 1
        if known:
            alike.closest[other] = max(alike.closest[other], likeness / known)
    for at in range(begins[row], begins[row + 1]):
        alike.marked[terms[entries[at]]] = 0


@as_written
def _by_row(places: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each row's entries begin among all, and the entries in the order of their rows."""
    begins = np.zeros(rows + 1, np.int64)
    for e in range(len(places)):
        begins[places[e] + 1] += 1
    for row in range(rows):
        begins[row + 1] += begins[row]
    at, entries = begins.copy(), np.empty(len(places), np.int64)
    for e in range(len(places)):
        entries[at[places[e]]] = e
        at[places[e]] += 1
    return begins, entries


@as_written
def _numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """A number from 0 for each different key, of each entry; and how many they are."""
    room = 64
    while room < 2 * len(keys):
        room *= 2
    slots, firsts = np.full(room, -1, np.int64), np.empty(len(keys), np.int64)
    numbers, count = np.empty(len(keys), np.int64), 0
    for e in range(len(keys)):
        slot = np.int64((np.uint64(keys[e]) * _GOLDEN) >> _HALF) & (room - 1)
        while slots[slot] >= 0 and keys[firsts[slots[slot]]] != keys[e]:
            slot = (slot + 1) & (room - 1)
        if slots[slot] < 0:
            slots[slot], firsts[count] = count, e
            count += 1
        numbers[e] = slots[slot]
    return numbers, count
