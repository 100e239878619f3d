"""Sequences for a network that reads histories: pieces of like length that fit its window."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def sequences(
    users: NDArray[np.int32], window: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and length of pieces of at most `window` + 1 events of one user each.

    Together they predict every event of a user but the first exactly once. Each call draws anew
    where a long history is cut.
    """
    starts = (
        np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        if len(users)
        else np.empty(0, np.int64)
    )
    ends = np.append(starts[1:], len(users))
    first, last = [], []
    short = ends - starts <= window + 1
    for start, end in zip(starts[~short].tolist(), ends[~short].tolist(), strict=True):
        cuts = np.unique(
            np.append(np.arange(start + int(random.integers(1, window + 1)), end, window), end)
        )
        first.append(np.append(start, cuts[:-1] - 1))
        last.append(cuts)
    begin = np.concatenate([starts[short], *first]).astype(np.int64)
    length = np.concatenate([ends[short], *last]).astype(np.int64) - begin
    return begin[length >= 2], length[length >= 2]


def filled(length: NDArray[np.int64], room: int) -> Iterator[NDArray[np.int64]]:
    """Places of ascending lengths in groups of at most `room` events each, but one piece at least.

    Each piece counts with the length of its group's longest.
    """
    begin = 0
    while begin < len(length):
        end = begin + 1
        while end < len(length) and (end + 1 - begin) * int(length[end]) <= room:
            end += 1
        yield np.arange(begin, end)
        begin = end
