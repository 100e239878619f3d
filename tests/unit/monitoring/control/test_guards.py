"""When a canary is beyond its bounds: surely worse, by enough, and with enough slates."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.answers import Latencies
from services.monitoring.control.guards import Judgement, WindowSums, judge
from slipstream.contracts.experiments import Guard

GUARD = Guard()


def timed(latencies: Sequence[float], others: int = 0) -> WindowSums:
    """Slates of an own model with these latencies, and others that none has made."""
    return WindowSums(len(latencies) + others, 0, 0, len(latencies), Latencies.of(latencies))


def answers(
    n: int, *, ms: float = 4.0, failed: int = 0, absent: int = 0, others: int = 0
) -> WindowSums:
    """`n` slates of an own model, and those that failed, were absent, or that no model made."""
    own = timed([ms + number % 3 / 10 for number in range(n)])
    slates = n + failed + absent + others
    return own._replace(slates=slates, failed=failed, absent=absent)


def found(
    canary: WindowSums,
    control: WindowSums | None = None,
    guard: Guard = GUARD,
    *,
    clicks: float | None = None,
    behind_s: float | None = 1.0,
    is_whole: bool = True,
) -> Judgement:
    against = answers(1_000) if control is None else control
    return judge(guard, against, canary, clicks_high=clicks, behind_s=behind_s, is_whole=is_whole)


def judged(
    canary: WindowSums,
    control: WindowSums | None = None,
    guard: Guard = GUARD,
    *,
    is_whole: bool = True,
) -> str:
    """The reason why it is beyond a bound; empty where it is not."""
    judgement = found(canary, control, guard, is_whole=is_whole)
    return judgement.reason if judgement.state == "beyond" else ""


def test_a_canary_as_good_as_the_control_stays() -> None:
    assert found(answers(500)) == Judgement(state="within")
    # Visitors whom no model knows are on both sides.
    mixed = answers(300, others=200)
    assert judged(mixed, mixed) == ""


def test_a_canary_that_fails_is_at_fault() -> None:
    failing = answers(40, failed=20)
    assert judged(failing) == (
        "its model did not make 33.3% of 60 slates, the control's 0.0% of 1,000; it failed for 20"
    )
    assert judged(answers(55, others=5)).startswith("its model did not make 8.3%")
    assert judged(failing, guard=Guard(failures=0.5)) == ""


def test_too_few_slates_judge_nobody() -> None:
    few = found(answers(0, failed=49))
    assert few.state == "unjudged" and few.reason == (
        "in 300 s the canary made 49 slates, the control 1,000: 50 of each are needed"
    )
    assert judged(answers(0, failed=50)) != ""
    assert found(answers(0, failed=500), answers(49)).state == "unjudged"
    assert judged(answers(200, failed=1)) == ""


def test_what_monitoring_has_not_read_yet_is_unjudged() -> None:
    failing = answers(40, failed=20)
    assert found(failing, behind_s=300).state == "beyond"
    behind = found(failing, behind_s=301, clicks=-0.5)
    assert behind.state == "unjudged"
    assert behind.reason == "no slate of the last 300 s is known: the newest is 301 s old"
    assert found(failing, behind_s=None).reason.endswith("none has been read")


def test_a_canary_that_surely_loses_clicks_is_at_fault() -> None:
    lost = found(answers(500), clicks=-0.031)
    assert lost == Judgement(
        state="beyond", reason="it loses at least 3.1% of the control's clicks"
    )
    assert found(answers(500), clicks=0.01).state == "within"
    assert found(answers(500), clicks=-0.031, guard=Guard(lost_clicks=0.05)).state == "within"
    # Clicks are of its whole time: the window may have few slates.
    assert found(answers(5), clicks=-0.031).state == "beyond"


def test_a_model_that_is_fetched_is_no_fault_until_the_window_is_over() -> None:
    absent = answers(20, absent=60)
    assert judged(absent, is_whole=False) == ""
    assert judged(absent) == "its model was not at hand for 60 of 80 slates"
    assert judged(answers(60, absent=30)) == ""


def test_a_slow_canary_is_at_fault_on_the_average_or_in_the_tail() -> None:
    assert judged(answers(100, ms=12.0)) == "it takes 12.1 ms on the average, the control 4.1"
    tail = timed([4.0 + n % 3 / 10 for n in range(94)] + [30.0 + n % 3 / 10 for n in range(6)])
    # Percentiles are those of sketches, at most 2 % too high.
    assert judged(tail) == "its 99th percentile of latency is 30.7 ms, the control's 4.2"
    # More than half as long, and less than 5 ms more.
    assert judged(answers(100, ms=8.0)) == ""
    assert judged(answers(100, ms=12.0), guard=Guard(slower=4.0)) == ""
    unknown = answers(100)._replace(latencies=Latencies())
    assert judged(unknown) == ""


@given(st.integers(0, 2**32 - 1), st.integers(50, 2_000))
def test_two_alike_are_told_apart_by_chance_alone(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)

    def drawn(size: int) -> WindowSums:
        own = int((random.random(size) >= 0.2).sum())
        return timed(random.lognormal(1.0, 0.8, own).tolist(), size - own)

    # One alarm in a thousand looks or fewer: none in the hundred of this test.
    assert judged(drawn(n), drawn(2_000)) == ""


@pytest.mark.parametrize("n", [50, 400])
def test_one_that_is_much_worse_is_always_found(n: int) -> None:
    random = np.random.default_rng(7)
    slow = timed(random.lognormal(3.0, 0.8, n).tolist())
    quick = timed(random.lognormal(1.0, 0.8, 900).tolist())
    assert judged(slow, quick) and not judged(quick, slow)
