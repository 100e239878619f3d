import pytest

from services.training.run.eta import Eta

PAST = {"reading": 10.0, "fitting": 60.0, "judging": 20.0, "saving": 10.0}


def test_first_run_is_judged_by_its_own_progress_once_that_says_something() -> None:
    eta = Eta({}, now=0)
    assert eta.left_s("reading", 0.05, None, now=5) is None
    assert eta.left_s("fitting", 0.25, 0.5, now=20) == pytest.approx(60)


def test_later_run_takes_as_long_as_the_last_one_did() -> None:
    eta = Eta(PAST, now=0)
    assert eta.left_s("reading", 0.0, None, now=0) == pytest.approx(100)
    assert eta.left_s("reading", 0.0, None, now=4) == pytest.approx(96)
    assert eta.left_s("fitting", 0.05, None, now=10) == pytest.approx(90)


def test_run_that_is_slower_than_the_last_one_will_go_on_to_be() -> None:
    eta = Eta(PAST, now=0)
    eta.left_s("reading", 0.0, None, now=0)
    assert eta.left_s("fitting", 0.05, None, now=20) == pytest.approx(180)
    assert eta.left_s("fitting", 0.2, 0.5, now=110) == pytest.approx(90 + 30 * 200 / 70)


def test_little_said_of_a_stage_counts_for_little() -> None:
    eta = Eta(PAST, now=0)
    eta.left_s("fitting", 0.05, None, now=0)
    assert eta.left_s("fitting", 0.06, 0.01, now=20) == pytest.approx(40 + 30)
    assert Eta(PAST, now=0).left_s("fitting", 0.3, 0.8, now=1) == pytest.approx(60 + 30)


def test_stage_that_takes_longer_than_expected_is_nearly_done_and_never_less_than_that() -> None:
    eta = Eta(PAST, now=0)
    eta.left_s("fitting", 0.05, None, now=0)
    assert eta.left_s("fitting", 0.05, None, now=300) == pytest.approx(30)


def test_stage_that_the_last_run_did_not_have_is_judged_by_progress() -> None:
    eta = Eta(PAST, now=0)
    assert eta.left_s("searching parameters", 0.5, None, now=30) == pytest.approx(30)
