"""The retrievers' scores: votes of a history's items, and of similar visits.

They are those of `neighbours.ItemToItem` and `sessions.Sessions`, which define them. Votes are
added up in an array over the catalogue that is zero before and after, so that a request costs what
is voted for and not the catalogue.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.selection import BINS, add, drain, key, threshold

_NONE = np.int32(-1)
# No visit is longer, see `sessions.LONGEST_VISIT`.
_LONGEST = 64


@compiled
def voters(
    item: NDArray[np.int32],
    weight: NDArray[np.float32],
    time: NDArray[np.int64],
    rule: NDArray[np.float64],
    out: NDArray[np.int32],
    strength: NDArray[np.float32],
) -> int:
    """The voting items, latest first, and the weight of each: `neighbours.HistoryWeighting`.

    `rule` holds its fields in their order; a half-life of 0 is none.
    """
    size, found = len(item), np.int64(0)
    for back in range(min(size, np.int64(rule[0]))):
        at = size - 1 - back
        if rule[4] and _among(item[at], out, found):
            continue
        force = np.float32(back + 1) ** np.float32(-rule[1])
        if rule[2] > 0:
            force *= np.float32(np.exp2(-(time[size - 1] - time[at]) / rule[2]))
        if rule[3]:
            force *= weight[at]
        out[found], strength[found] = item[at], force
        found += 1
    return found


@compiled
def _among(item: int, items: NDArray[np.int32], size: int) -> bool:
    found = False
    for place in range(size):
        found |= items[place] == item
    return found


@compiled
def votes_over_all(
    data: NDArray[np.float32],
    voter: NDArray[np.int32],
    strength: NDArray[np.float32],
    size: int,
    out: NDArray[np.float32],
) -> None:
    """Votes by whole rows of a square matrix."""
    for i in range(len(out)):
        out[i] = np.float32(0)
    _add_rows(data, voter, strength, size, out)


@compiled
def _add_rows(
    data: NDArray[np.float32],
    voter: NDArray[np.int32],
    strength: NDArray[np.float32],
    size: int,
    out: NDArray[Any],
) -> None:
    """Add the voters' rows of a square matrix up, four at a time."""
    n_items = len(out)
    for v in range(0, size - 3, 4):
        row0 = data[voter[v] * n_items : (voter[v] + 1) * n_items]
        row1 = data[voter[v + 1] * n_items : (voter[v + 1] + 1) * n_items]
        row2 = data[voter[v + 2] * n_items : (voter[v + 2] + 1) * n_items]
        row3 = data[voter[v + 3] * n_items : (voter[v + 3] + 1) * n_items]
        s0, s1, s2, s3 = strength[v], strength[v + 1], strength[v + 2], strength[v + 3]
        for i in range(n_items):
            out[i] += s0 * row0[i] + s1 * row1[i] + s2 * row2[i] + s3 * row3[i]
    for v in range(size - size % 4, size):
        row = data[voter[v] * n_items : (voter[v] + 1) * n_items]
        s = strength[v]
        for i in range(n_items):
            out[i] += s * row[i]


@compiled
def votes(
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    indptr: NDArray[np.int64],
    voter: NDArray[np.int32],
    strength: NDArray[np.float32],
    size: int,
    total: NDArray[np.float64],
    bits: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Votes by rows of a sparse matrix: items in ascending order, their scores, and how many."""
    for v in range(size):
        force = strength[v]
        for at in range(indptr[voter[v]], indptr[voter[v] + 1]):
            target = indices[at]
            total[target] += force * data[at]
            add(bits, target)
    return _emptied(total, bits, items, scores)


@compiled
def votes_by_full_rows(
    data: NDArray[np.float32],
    voter: NDArray[np.int32],
    strength: NDArray[np.float32],
    size: int,
    total: NDArray[np.float64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """What `votes` returns, by the whole rows of a sparse matrix that has nearly every entry.

    A row is added up in lanes, in a tenth of the time that its entries take one by one.
    """
    _add_rows(data, voter, strength, size, total)
    kept = 0
    for i in range(len(total)):
        value = total[i]
        total[i] = 0.0
        if value != 0:
            items[kept], scores[kept] = i, np.float32(value)
            kept += 1
    return kept


@compiled
def _emptied(
    total: NDArray[np.float64],
    bits: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    found, kept = drain(bits, items), 0
    for place in range(found):
        target = items[place]
        value = total[target]
        total[target] = 0.0
        if value != 0:
            items[kept], scores[kept] = target, np.float32(value)
            kept += 1
    return kept


@compiled
def session_votes(
    visit_items: NDArray[np.int32],
    visit_ends: NDArray[np.int64],
    visits: NDArray[np.int32],
    places: NDArray[np.int64],
    item_ends: NDArray[np.int64],
    rarity: NDArray[np.float32],
    rule: NDArray[np.float64],
    item: NDArray[np.int32],
    total: NDArray[np.float64],
    bits: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Votes of the most similar visits, `sessions.Sessions.score`.

    `rule` holds the fields of `SessionsParameters` in their order; a half-life of 0 is none.
    """
    neighbours, recent, events = np.int64(rule[0]), np.int64(rule[1]), np.int64(rule[2])
    seen = np.empty(events, np.int32)
    n_seen, entries = np.int64(0), 0
    for at in range(len(item) - 1, max(-1, len(item) - 1 - events), -1):
        if not _among(item[at], seen, n_seen):
            seen[n_seen] = item[at]
            n_seen += 1
            begin = item_ends[item[at] - 1] if item[at] else 0
            entries += min(item_ends[item[at]] - begin, recent)
    if not entries:
        return 0

    # The visits that share an item, in an array over all visits, or else in a hash table: its size
    # does not grow with their number.
    count, slots = len(visit_ends), 16
    while slots < 2 * entries:
        slots *= 2
    direct = count <= slots
    if direct:
        slots = count
    table = np.empty(slots, np.int32)
    for slot in range(slots):
        table[slot] = _NONE
    found = np.empty(entries, np.int32)
    shared = np.empty(entries, np.int64)
    similarity = np.empty(entries, np.float64)
    size, force = np.int64(0), 1.0
    for s in range(n_seen):
        one = np.int64(seen[s])
        end = item_ends[one]
        begin = max(item_ends[one - 1] if one else 0, end - recent)
        for at in range(begin, end):
            visit = visits[at]
            slot = np.int64(visit)
            if not direct:
                slot = (slot * 2654435761 >> 7) & (slots - 1)
                while table[slot] >= 0 and found[table[slot]] != visit:
                    slot = (slot + 1) & (slots - 1)
            if table[slot] < 0:
                table[slot] = size
                found[size], shared[size], similarity[size] = visit, places[at], 0.0
                size += 1
            similarity[table[slot]] += force
        force *= rule[3]

    for v in range(size):
        visit = np.int64(found[v])
        length = visit_ends[visit] - (visit_ends[visit - 1] if visit else 0)
        if rule[6] == 0.5:
            similarity[v] /= np.sqrt(np.float64(length))
        elif rule[6] == 1:
            similarity[v] /= np.float64(length)
        elif rule[6]:
            similarity[v] /= np.float64(length) ** rule[6]
        if rule[8] > 0:
            similarity[v] *= np.exp2((visit - count) / (rule[8] * count))
    size = _most_similar(found, shared, similarity, size, neighbours)

    powers = np.empty(_LONGEST)
    powers[0] = 1.0
    for k in range(1, _LONGEST):
        powers[k] = powers[k - 1] * rule[4]
    backward = rule[5]
    for v in range(size):
        visit, at = np.int64(found[v]), shared[v]
        for place in range(visit_ends[visit - 1] if visit else 0, at):
            target = visit_items[place]
            total[target] += similarity[v] * powers[min(at - place, _LONGEST - 1)] * backward
            add(bits, target)
        for place in range(at + 1, visit_ends[visit]):
            target = visit_items[place]
            total[target] += similarity[v] * powers[min(place - at, _LONGEST - 1)]
            add(bits, target)
    found_items, kept = drain(bits, items), 0
    for place in range(found_items):
        target = items[place]
        value = total[target] * rarity[target]
        total[target] = 0.0
        if value > 0:
            items[kept], scores[kept] = target, np.float32(value)
            kept += 1
    return kept


@compiled
def _most_similar(
    visit: NDArray[np.int32],
    shared: NDArray[np.int64],
    similarity: NDArray[np.float64],
    size: int,
    most: int,
) -> int:
    """Keep the `most` most similar visits, of equal ones the latest; return how many they are."""
    if size <= most:
        return size
    keys, bins = np.empty(size, np.int64), np.empty(BINS, np.int64)
    for v in range(size):
        keys[v] = key(np.float32(similarity[v]))
    least, room = threshold(keys, size, most, bins)
    equal = np.int64(0)
    for v in range(size):
        if key(np.float32(similarity[v])) == least:
            keys[equal] = visit[v]
            equal += 1
    oldest = threshold(keys, equal, room, bins)[0]
    kept = 0
    for v in range(size):
        order = key(np.float32(similarity[v]))
        if order > least or (order == least and visit[v] >= oldest):
            visit[kept], shared[kept], similarity[kept] = visit[v], shared[v], similarity[v]
            kept += 1
    return kept
