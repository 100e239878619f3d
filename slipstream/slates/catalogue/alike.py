"""Rows of the catalogue that are alike: those that share attribute values."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.slates.catalogue.columns import Columns

# Most rows that a look-up compares, those with the rarest values first. It bounds the time of a
# look-up, whatever the attributes.
_COMPARED = 5_000


def votes(columns: Columns, rows: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The rows that share values with some rows, and how much they share.

    Rare values count more, and of values that many rows have, only the latest rows do.

    Args:
        columns: The attributes.
        rows: The rows that others are compared with.

    Returns:
        Rows, ascending, the given ones among them; and the weight of the values that each shares.
    """
    shared = Counter(term for row in rows for term in columns.terms(row))
    voters: list[NDArray[np.int64]] = []
    parts: list[float] = []
    room = _COMPARED
    for alike, seeded in sorted(
        ((vocabulary.rows(code), count) for (vocabulary, code), count in shared.items()),
        key=lambda entry: len(entry[0]),
    ):
        latest = alike[-room:] if room else []
        voters.append(np.array(latest, np.int64))
        parts.append(seeded / math.log2(2 + len(alike)))
        room -= len(latest)
    if not voters:
        return np.empty(0, np.int64), np.empty(0)
    voted, where = np.unique(np.concatenate(voters), return_inverse=True)
    return voted, np.bincount(where, np.repeat(parts, [len(each) for each in voters]))
