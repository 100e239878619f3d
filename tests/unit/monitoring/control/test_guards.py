"""When a canary is beyond its bounds: surely worse, by enough, and with enough slates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.control.guards import RecentAnswer, fault
from slipstream.contracts.experiments import Guard

GUARD = Guard()


def answers(n: int, *, ms: float = 4.0, by: str = "model", why: str = "") -> list[RecentAnswer]:
    return [RecentAnswer("new", by, why, ms + number % 3 / 10) for number in range(n)]


def judged(
    canary: list[RecentAnswer],
    control: list[RecentAnswer] | None = None,
    guard: Guard = GUARD,
    *,
    is_whole: bool = True,
) -> str:
    return fault(guard, answers(1_000) if control is None else control, canary, is_whole=is_whole)


def test_a_canary_as_good_as_the_control_stays() -> None:
    assert judged(answers(500)) == ""
    # Visitors whom no model knows are on both sides.
    mixed = answers(300) + answers(200, by="trending")
    assert judged(mixed, mixed) == ""


def test_a_canary_that_fails_is_at_fault() -> None:
    failing = answers(40) + answers(10, why="failed") + answers(10, why="resting")
    assert judged(failing) == (
        "its model did not make 33.3% of 60 slates, the control's 0.0% of 1,000; it failed for 20"
    )
    assert judged(answers(55) + answers(5, by="trending")).startswith("its model did not make 8.3%")
    assert judged(failing, guard=Guard(failures=0.5)) == ""


def test_too_few_slates_judge_nobody() -> None:
    assert judged(answers(49, why="failed")) == ""
    assert judged(answers(50, why="failed")) != ""
    assert judged(answers(500, why="failed"), answers(49)) == ""
    assert judged(answers(200) + answers(1, why="failed")) == ""


def test_a_model_that_is_fetched_is_no_fault_until_the_window_is_over() -> None:
    absent = answers(60, why="absent") + answers(20)
    assert judged(absent, is_whole=False) == ""
    assert judged(absent) == "its model was not at hand for 60 of 80 slates"
    assert judged(answers(30, why="absent") + answers(60)) == ""


def test_a_slow_canary_is_at_fault_on_the_average_or_in_the_tail() -> None:
    assert judged(answers(100, ms=12.0)) == "it takes 12.1 ms on the average, the control 4.1"
    tail = answers(94) + answers(6, ms=30.0)
    assert judged(tail) == "its 99th percentile of latency is 30.2 ms, the control's 4.2"
    # More than half as long, and less than 5 ms more.
    assert judged(answers(100, ms=8.0)) == ""
    assert judged(answers(100, ms=12.0), guard=Guard(slower=4.0)) == ""
    unknown = [answer._replace(latency_ms=None) for answer in answers(100, ms=12.0)]
    assert judged(unknown) == ""


@given(st.integers(0, 2**32 - 1), st.integers(50, 2_000))
def test_two_alike_are_told_apart_by_chance_alone(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)

    def drawn(size: int) -> list[RecentAnswer]:
        steps = np.where(random.random(size) < 0.2, "trending", "model")
        latencies = random.lognormal(1.0, 0.8, size)
        pairs = zip(steps, latencies, strict=True)
        return [RecentAnswer("", str(step), "", float(ms)) for step, ms in pairs]

    # One alarm in a thousand looks or fewer: none in the hundred of this test.
    assert judged(drawn(n), drawn(2_000)) == ""


@pytest.mark.parametrize("n", [50, 400])
def test_one_that_is_much_worse_is_always_found(n: int) -> None:
    random = np.random.default_rng(7)
    slow = [RecentAnswer("", "model", "", float(ms)) for ms in random.lognormal(3.0, 0.8, n)]
    quick = [RecentAnswer("", "model", "", float(ms)) for ms in random.lognormal(1.0, 0.8, 900)]
    assert judged(slow, quick) and not judged(quick, slow)
