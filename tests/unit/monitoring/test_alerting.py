"""Hysteresis: streaks open and close an alert, flicker does neither."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.alerting import Alert, Finding, Hysteresis, Streak, step
from slipstream.contracts.events import Severity
from tests.unit.monitoring.builders import T0

LIMITS = Hysteresis(to_open=3, to_close=2)
WARNING = Finding(Severity.WARNING, "bad", {"psi": 0.2})
CRITICAL = Finding(Severity.CRITICAL, "worse", {"psi": 0.4})


def _run(findings: list[Finding | None]) -> list[Alert | None]:
    """The rule's open alert after each check."""
    streak, alert = Streak(), None
    states: list[Alert | None] = []
    for number, finding in enumerate(findings):
        streak, after = step(
            "feature_drift", "retrain", streak, alert, finding, LIMITS, T0 + number
        )
        alert = after if after is not None and after.closed_at is None else None
        states.append(after if after is not None else None)
    return states


def test_step_opens_after_so_many_failing_checks_in_a_row() -> None:
    states = _run([WARNING, WARNING, None, WARNING, WARNING, WARNING])
    assert states[:5] == [None] * 5
    opened = states[5]
    assert opened is not None
    assert (opened.alert_id, opened.opened_at, opened.closed_at) == (
        f"feature_drift-{T0 + 5}",
        T0 + 5,
        None,
    )
    assert (opened.event().state, opened.event().action) == ("opened", "retrain")


def test_step_closes_after_so_many_good_checks_in_a_row() -> None:
    states = _run([WARNING] * 3 + [None, WARNING, None, None])
    assert [state.closed_at if state else None for state in states[2:]] == [
        None,
        None,
        None,
        None,
        T0 + 6,
    ]
    closed = states[-1]
    assert closed is not None
    assert (closed.event().state, closed.event().action, closed.event().timestamp) == (
        "closed",
        "none",
        T0 + 6,
    )


def test_step_raises_severity_and_announces_that_again_but_never_lowers_it() -> None:
    streak, alert = step("r", "none", Streak(failing=2), None, WARNING, LIMITS, T0)
    assert alert is not None
    told = Alert(*[getattr(alert, name) for name in alert.__slots__[:-1]], announced=True)
    _, worse = step("r", "none", streak, told, CRITICAL, LIMITS, T0 + 1)
    assert worse is not None
    assert (worse.severity, worse.announced, worse.alert_id) == (
        Severity.CRITICAL,
        False,
        alert.alert_id,
    )
    assert worse.event().timestamp == T0  # the same opening for training, which has had it
    _, milder = step("r", "none", streak, worse, WARNING, LIMITS, T0 + 2)
    assert milder is not None
    assert (milder.severity, milder.summary) == (Severity.CRITICAL, "bad")


def test_step_of_an_open_alert_that_goes_on_is_not_announced_again() -> None:
    streak, alert = step("r", "none", Streak(failing=2), None, WARNING, LIMITS, T0)
    assert alert is not None
    told = Alert(*[getattr(alert, name) for name in alert.__slots__[:-1]], announced=True)
    _, on = step("r", "none", streak, told, WARNING, LIMITS, T0 + 1)
    _, passing = step("r", "none", streak, told, None, LIMITS, T0 + 1)
    assert on is not None
    assert passing is not None
    assert on.announced
    assert passing.announced


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_step_opens_and_closes_exactly_at_streaks(failing: list[bool]) -> None:
    states = _run([WARNING if fails else None for fails in failing])
    is_open = False
    for number in range(len(failing)):
        if not is_open and number >= 2 and all(failing[number - 2 : number + 1]):
            is_open = True
        elif is_open and number >= 1 and not any(failing[number - 1 : number + 1]):
            is_open = False
        state = states[number]
        assert (state is not None and state.closed_at is None) is is_open
