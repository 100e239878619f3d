"""Pauses between attempts."""

from slipstream.chassis.pauses import pause_after


def test_each_pause_is_twice_the_last_up_to_the_longest() -> None:
    assert [pause_after(failures, 0.5, 5.0) for failures in range(1, 7)] == [0.5, 1, 2, 4, 5, 5]


def test_the_longest_pause_stays_however_often_it_failed() -> None:
    assert pause_after(10**9, 0.5, 15.0) == 15.0
