from slipstream_cli.local.restarts import (
    AT_ONCE,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    WINDOW_S,
    Restarts,
)


def test_a_child_that_dies_now_and_then_starts_again_at_once_for_ever() -> None:
    restarts = Restarts()
    assert {restarts.pause_after(number * WINDOW_S / AT_ONCE) for number in range(100)} == {
        FIRST_PAUSE_S
    }


def test_one_that_does_nothing_but_die_is_started_ever_more_slowly_and_never_given_up() -> None:
    restarts = Restarts()
    assert [restarts.pause_after(0.0) for _ in range(AT_ONCE + 2)][-3:] == [
        FIRST_PAUSE_S,
        2 * FIRST_PAUSE_S,
        4 * FIRST_PAUSE_S,
    ]
    assert [restarts.pause_after(1.0) for _ in range(2_000)][-1] == LONGEST_PAUSE_S


def test_what_lies_back_is_forgotten() -> None:
    restarts = Restarts()
    for _ in range(20):
        restarts.pause_after(0.0)
    assert restarts.pause_after(WINDOW_S) == FIRST_PAUSE_S
