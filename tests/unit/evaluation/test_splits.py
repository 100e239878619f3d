import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipstream.evaluation.splits import (
    history_starts,
    hold_out_last,
    leave_last_out,
    next_click,
    time_split,
)

LENGTHS = st.lists(st.integers(1, 9), max_size=8)


def _users(lengths: list[int]) -> NDArray[np.int32]:
    return np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)


def _times(size: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).integers(0, 20, size)).astype(np.int64)


@given(LENGTHS)
def test_history_starts_at_the_first_row_of_the_user(lengths: list[int]) -> None:
    users = _users(lengths)
    assert history_starts(users).tolist() == [users.tolist().index(user) for user in users]


@given(LENGTHS)
def test_leave_last_out_divides_all_rows_and_takes_the_last_two_of_each_user(
    lengths: list[int],
) -> None:
    users = _users(lengths)
    split = leave_last_out(users)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(users)))
    ends = np.cumsum(lengths)
    asked = [end for end, length in zip(ends, lengths, strict=True) if length >= 3]
    assert split.test.tolist() == [end - 1 for end in asked]
    assert split.validation.tolist() == [end - 2 for end in asked]


@given(LENGTHS, st.integers(0, 4))
def test_hold_out_last_takes_at_most_a_fifth_of_a_user(lengths: list[int], events: int) -> None:
    users = _users(lengths)
    split = hold_out_last(users, events)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(users)))
    taken = np.bincount(users[split.validation], minlength=len(lengths))
    assert taken.tolist() == [min(events, length // 5) for length in lengths]
    for user in set(users.tolist()):
        assert max(split.training[users[split.training] == user]) < min(
            [*split.validation[users[split.validation] == user], len(users)]
        )


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=40), st.floats(0.05, 0.95)
)
def test_time_split_never_fits_on_the_future(rows: list[tuple[int, int]], share: float) -> None:
    rows = sorted(rows)
    users = np.array([user for user, _ in rows], np.int32)
    times = np.array([time for _, time in rows], np.int64)
    split = time_split(users, times, share)
    if len(split.training):
        later = np.setdiff1d(np.arange(len(users)), split.training)
        assert times[split.training].max() < times[later].min()
        assert set(split.test) <= set(later)
    assert (history_starts(users)[split.test] < split.test).all() if len(split.test) else True


def test_time_split_asks_for_each_held_out_event_with_a_history() -> None:
    users = np.array([0, 0, 0, 1, 1], np.int32)
    times = np.array([1, 2, 9, 8, 10], np.int64)
    split = time_split(users, times, 0.5)
    assert split.training.tolist() == [0, 1]
    assert split.test.tolist() == [2, 4]


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_time_split_refuses_a_share_that_leaves_nothing(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        time_split(np.zeros(3, np.int32), np.arange(3), share)


def test_time_split_of_nothing_is_nothing() -> None:
    assert all(
        len(part) == 0 for part in time_split(np.empty(0, np.int32), np.empty(0, np.int64), 0.2)
    )


@given(LENGTHS, st.integers(0, 5), st.integers(0, 9))
def test_next_click_holds_out_whole_sessions(lengths: list[int], sessions: int, seed: int) -> None:
    users = _users(lengths)
    split = next_click(users, _times(len(users), seed), sessions)
    held_out = set(users.tolist()) - set(users[split.training].tolist())
    long_enough = sum(length >= 2 for length in lengths)
    assert len(held_out) == min(sessions, long_enough // 2)
    assert sorted(users[split.validation].tolist()) == sorted(
        user for user in held_out for _ in range(lengths[user] - 1)
    )


def test_next_click_holds_out_the_sessions_that_began_last() -> None:
    users = _users([2, 2, 2, 2])
    split = next_click(users, np.array([5, 6, 9, 9, 1, 2, 8, 9]), 2)
    assert split.training.tolist() == [0, 1, 4, 5]
    assert split.validation.tolist() == [3, 7]
