"""Selection of the best scores, and sets of items as bits.

Of equal scores, the item that comes first in the catalogue wins, so that a list depends neither on
the processor nor on what else is asked.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import compiled
from slipstream.models.kernels.memory import bits_of_float, lowest_bit

# Of a key's 32 bits, each pass looks at 11, 11 and 10.
BINS = 2_048
# Words of a set that are looked at in one step, since most of a large catalogue's are empty.
_GROUP = 8
_SIGN = np.int64(0x80000000)
_ALL = np.int64(0xFFFFFFFF)


@compiled
def key(score: np.float32) -> int:
    """A number from 0 to 2**32 - 1 that is ordered as the scores are."""
    bits = np.int64(bits_of_float(score + np.float32(0))) & _ALL  # -0 is 0
    return (bits ^ _ALL) if bits & _SIGN else (bits | _SIGN)


@compiled
def threshold(
    keys: NDArray[np.int64], size: int, most: int, bins: NDArray[np.int64]
) -> tuple[int, int]:
    """The smallest key of the `most` largest of `size` keys, and how many of its equals are in.

    `keys` is overwritten.
    """
    room, prefix = most, np.int64(0)
    for turn in range(3):
        shift = 21 - 11 * turn if turn < 2 else 0
        width = 11 if turn < 2 else 10
        for b in range(1 << width):
            bins[b] = 0
        mask = (1 << width) - 1
        for i in range(size):
            bins[(keys[i] >> shift) & mask] += 1
        chosen = mask
        while bins[chosen] < room:
            room -= bins[chosen]
            chosen -= 1
        prefix |= chosen << shift
        if turn == 2:
            break
        kept = 0
        for i in range(size):
            if (keys[i] >> shift) & mask == chosen:
                keys[kept] = keys[i]
                kept += 1
        size = kept
    return prefix, room


def words(n_items: int) -> int:
    """The length of a set over this many items: whole groups, see `drain`."""
    return _GROUP * -(-n_items // (64 * _GROUP))


@compiled
def add(bits: NDArray[np.int64], item: int) -> None:
    """Put an item into a set."""
    bits[item >> 6] |= np.int64(1) << (item & 63)


@compiled
def drain(bits: NDArray[np.int64], out: NDArray[np.int32]) -> int:
    """Empty a set into `out`, in ascending order, and return the number of its items."""
    found = 0
    for begin in range(0, len(bits), _GROUP):
        used = np.int64(0)
        for word in range(begin, begin + _GROUP):
            used |= bits[word]
        if used:
            for word in range(begin, begin + _GROUP):
                rest = bits[word]
                bits[word] = 0
                while rest:
                    out[found] = (word << 6) + lowest_bit(rest)
                    found += 1
                    rest &= rest - 1
    return found


@compiled
def best_rows(scores: NDArray[np.float32], size: int, most: int, out: NDArray[np.int32]) -> int:
    """The rows of the `most` best scores, best first; of equal ones the first row.

    Rows of -inf are left out.
    """
    found = 0
    for row in range(size if most else 0):
        score = scores[row]
        if score == -np.inf or (found == most and score <= scores[out[found - 1]]):
            continue
        at = found if found < most else most - 1
        while at and scores[out[at - 1]] < score:
            out[at] = out[at - 1]
            at -= 1
        out[at] = row
        found = min(found + 1, most)
    return found
