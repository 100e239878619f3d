"""The load of a process, by a clock in the test's hands."""

import pytest

from services.serving.request.store_reads import Load, OverloadedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def load_of(clock: Clock, answer_s: float, longest_s: float = 1.0) -> Load:
    """A load that knows, from a thousand answers, how long one takes."""
    load = Load(longest_s, clock)
    for _ in range(1_000):
        with load.taken():
            clock.now += answer_s
    return load


def test_a_request_that_comes_waits_for_those_in_work() -> None:
    load = load_of(Clock(), 0.3)
    assert load.wait_s == 0
    with load.taken(), load.taken(2):
        assert load.wait_s == pytest.approx(0.6)


def test_one_that_would_wait_too_long_is_refused_and_told_when_to_come_again() -> None:
    load = load_of(Clock(), 0.6)
    with load.taken(), load.taken(), pytest.raises(OverloadedError) as refusal, load.taken():
        pytest.fail("it was taken")
    assert refusal.value.headers == {"Retry-After": "2"}
    with load.taken():  # nobody is there any more
        pass


def test_requests_beside_each_other_share_the_time() -> None:
    clock = Clock()
    load = Load(10.0, clock)
    for _ in range(100):
        sixteen = [load.taken() for _ in range(16)]
        for request in sixteen:
            request.__enter__()
        for request in sixteen:
            clock.now += 0.01
            request.__exit__(None, None, None)
    with load.taken():
        assert load.wait_s == pytest.approx(0.01)


def test_a_request_of_many_lists_makes_nobody_wait_for_all_of_them() -> None:
    clock = Clock()
    load = Load(10.0, clock)
    for _ in range(50):
        with load.taken(64):
            clock.now += 0.64
    with load.taken(64), load.taken(64):
        assert load.wait_s == pytest.approx(0.02)


def test_a_pause_is_no_load() -> None:
    clock = Clock()
    load = load_of(clock, 0.001)
    with load.taken():
        clock.now += 60
    with load.taken(20):
        assert load.wait_s < 0.5


def test_a_request_that_fails_is_no_longer_in_work() -> None:
    load = load_of(Clock(), 0.6)
    with pytest.raises(KeyError), load.taken():
        raise KeyError
    assert load.wait_s == 0
