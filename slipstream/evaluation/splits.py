"""Splits of events into those that a model is fitted on and those that it must predict.

Pure functions on arrays. All take events sorted by user, then time, and return ascending row
numbers. The history of a test row is every earlier row of the same user, see `history_starts`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Split(NamedTuple):
    """Rows to fit on, rows to choose parameters by, and rows to predict, without any overlap."""

    training: Rows
    validation: Rows
    test: Rows


def history_starts(users: NDArray[np.int32]) -> Rows:
    """The first row of the same user, for each row.

    Row r's history is `history_starts(users)[r]:r`.
    """
    first = np.ones(len(users), np.bool_)
    first[1:] = users[1:] != users[:-1]
    return np.maximum.accumulate(np.where(first, np.arange(len(users)), 0))


def leave_last_out(users: NDArray[np.int32]) -> Split:
    """The last event of each user is the test, the one before it validation, the rest training.

    Users with fewer than three events are training only: nothing would be left to know them by.
    """
    from_end, count = _from_end(users)
    asked = count >= 3
    return Split(
        np.flatnonzero(~asked | (from_end >= 2)),
        np.flatnonzero(asked & (from_end == 1)),
        np.flatnonzero(asked & (from_end == 0)),
    )


def hold_out_last(users: NDArray[np.int32], events: int) -> Split:
    """Validation is the last `events` of each user, at most a fifth of them; the rest is training.

    There is no test.
    """
    from_end, count = _from_end(users)
    held_out = from_end < np.minimum(events, count // 5)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), np.empty(0, np.int64))


def _from_end(users: NDArray[np.int32]) -> tuple[Rows, Rows]:
    """The number of later rows of the same user, and the user's number of rows, for each row."""
    count = np.bincount(users)[users] if len(users) else np.empty(0, np.int64)
    return history_starts(users) + count - 1 - np.arange(len(users)), count


def time_split(users: NDArray[np.int32], timestamps: NDArray[np.int64], share: float) -> Split:
    """The last `share` of the events by time is held out, see `split_at`.

    Raises ValueError for a share that leaves nothing on one side.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    cut = np.sort(timestamps)[int(len(timestamps) * (1 - share))] if len(timestamps) else 0
    return split_at(users, timestamps, int(cut))


def split_at(users: NDArray[np.int32], timestamps: NDArray[np.int64], cut: int) -> Split:
    """Events at `cut` or later are held out; each of them with a history is a test row.

    Events at the very moment of the cut are all held out, so that no model is fitted on
    simultaneous ones.
    """
    later = timestamps >= cut
    has_history = history_starts(users) < np.arange(len(users))
    return Split(np.flatnonzero(~later), np.empty(0, np.int64), np.flatnonzero(later & has_history))


def next_click(
    users: NDArray[np.int32], timestamps: NDArray[np.int64], validation_sessions: int
) -> Split:
    """The sessions (one user each) that began last are held out whole.

    Each click after their first is a validation row. At most half of the sessions with two clicks
    or more are held out. There is no test: the query file has it.
    """
    starts = history_starts(users)
    heads = np.flatnonzero(starts == np.arange(len(users)))
    long_enough = heads[np.diff(np.append(heads, len(users))) >= 2]
    latest = np.argsort(-timestamps[long_enough], kind="stable")[
        : min(validation_sessions, len(long_enough) // 2)
    ]
    held_out = np.isin(starts, long_enough[latest])
    later = starts < np.arange(len(users))
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out & later), np.empty(0, np.int64))
