"""When each rule has a finding, and when it holds its tongue."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.alert_rules import (
    BUILT_IN,
    Alert,
    ClickThroughDropped,
    DataFault,
    FeatureDrift,
    Finding,
    Hysteresis,
    NoChampion,
    Rule,
    ServiceDown,
    Streak,
    step,
    transition,
)
from services.monitoring.drift_watch import Fault
from services.monitoring.probes import FeaturesStatus, Training
from services.monitoring.threshold_rules import AlertDefinition, ThresholdRule
from slipstream.contracts.events import Severity
from tests.unit.monitoring.builders import T0, clicks, feature, service, snapshot

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook"


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_every_rule_is_content_with_a_platform_in_good_order(rule: Rule) -> None:
    good = snapshot(
        features=FeaturesStatus(applied=10, lag=0, caught_up=True),
        delay_ms=0,
        drift=[feature("views", 0.01, "stable")],
        trend=[clicks("home", 0.1, 0.1, fell=False)],
    )
    assert rule.judgeable(good)
    assert rule.check(good) is None


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_every_rule_has_a_page_in_the_runbook(rule: Rule) -> None:
    assert (RUNBOOK / f"{rule.name}.md").read_text("utf-8").startswith(f"# {rule.name}\n")
    assert f"| [{rule.name}]({rule.name}.md) |" in (RUNBOOK / "README.md").read_text("utf-8")


def test_service_down_is_critical_when_one_is_away_and_names_what_is_down() -> None:
    found = ServiceDown().check(
        snapshot(services=[service("features", "unready", ("redis",)), service("serving", "away")])
    )
    assert found is not None
    assert found.severity is Severity.CRITICAL
    assert found.summary == "features is unready (redis down), serving is away"


def test_service_down_passes_over_services_that_sleep() -> None:
    assert ServiceDown().check(snapshot(services=[service("serving", "asleep")])) is None
    found = ServiceDown().check(
        snapshot(services=[service("serving", "asleep"), service("features", "away")])
    )
    assert found is not None
    assert found.summary == "features is away"


def test_service_down_is_a_warning_when_all_answer() -> None:
    found = ServiceDown().check(snapshot(services=[service("features", "unready", ("redis",))]))
    assert found is not None
    assert found.severity is Severity.WARNING


def test_no_champion_is_found_only_when_training_says_so() -> None:
    without = snapshot(training=Training(reached=True))
    had = without.model_copy(update={"had_champion": True})
    assert NoChampion().judgeable(had) and NoChampion().check(had) is not None
    assert not NoChampion().judgeable(without), "a young shop has had none"
    assert not NoChampion().judgeable(had.model_copy(update={"training": Training(reached=False)}))


def test_feature_drift_is_as_severe_as_the_worst_feature() -> None:
    found = FeatureDrift().check(
        snapshot(drift=[feature("views", 0.3, "critical"), feature("events_1d", 0.15, "warning")])
    )
    assert found is not None
    assert found.severity is Severity.CRITICAL
    assert found.evidence["psi"] == {"views": 0.3, "events_1d": 0.15}
    assert FeatureDrift().action == "retrain"
    assert found.evidence["onset"] == T0 - 3_600_000  # the window before shows it, too


def test_feature_drift_gives_no_verdict_without_enough_visitors() -> None:
    assert not FeatureDrift().judgeable(snapshot(drift=[feature("views", 3.0, "unknown")]))
    assert not FeatureDrift().judgeable(snapshot(drift=[]))


def test_feature_drift_needs_a_shift_that_lasts_and_data_without_fault() -> None:
    passing = feature("views", 0.3, "critical", lasting=False)
    assert FeatureDrift().check(snapshot(drift=[passing])) is None
    faults = [Fault(measure="brands", why="missing")]
    drift = [feature("views", 0.3, "critical")]
    assert FeatureDrift().judgeable(snapshot(drift=drift))
    assert not FeatureDrift().judgeable(snapshot(drift=drift, faults=faults))


def test_data_fault_holds_promotions_and_names_each_fault() -> None:
    faults = [Fault(measure="brands", why="missing"), Fault(measure="volume", why="3 visitors")]
    found = DataFault().check(snapshot(faults=faults))
    assert found is not None
    assert found.severity is Severity.CRITICAL
    assert found.summary == "brands: missing; volume: 3 visitors"
    _, opened = step(DataFault(), Streak(2), None, found, LIMITS, T0)
    assert opened is not None
    assert (opened.event().hold, opened.event().action) == (True, "none")
    _, closed = step(DataFault(), Streak(0, 1), opened, None, LIMITS, T0 + 1)
    assert closed is not None
    assert (closed.event().state, closed.event().hold) == ("closed", False)
    assert not DataFault().judgeable(snapshot(judged=False))


def test_click_through_dropped_names_the_placements_that_fell() -> None:
    rule = ClickThroughDropped()
    found = rule.check(
        snapshot(trend=[clicks("home", 0.04, 0.1, fell=True), clicks("", 0.2, 0.2, fell=False)])
    )
    assert found is not None
    assert found.summary == "click-through fell: home: from 10.0% to 4.0%"
    assert list(found.evidence["placements"]) == ["home"]
    _, opened = step(rule, Streak(2), None, found, LIMITS, T0)
    assert opened is not None
    assert (opened.event().action, opened.event().onset) == ("retrain", T0 - 2 * 86_400_000)
    later = found._replace(
        severity=Severity.CRITICAL, evidence={**found.evidence, "until": T0 + 1, "onset": T0}
    )
    _, worse = step(rule, Streak(), opened, later, LIMITS, T0 + 1)
    assert worse is not None and worse.evidence["until"] == T0 + 1
    assert worse.event().onset == opened.event().onset
    _, closed = step(rule, Streak(0, 1), worse, None, LIMITS, T0 + 2)
    assert closed is not None
    assert closed.event().onset is None


def test_click_through_dropped_gives_no_verdict_on_few_slates_or_faulty_data() -> None:
    rule = ClickThroughDropped()
    assert not rule.judgeable(snapshot())
    fell = [clicks("home", 0.04, 0.1, fell=True)]
    assert rule.judgeable(snapshot(trend=fell))
    assert not rule.judgeable(snapshot(trend=fell, faults=[Fault(measure="items", why="gone")]))


LIMITS = Hysteresis(to_open=3, to_close=2)
WARNING = Finding(Severity.WARNING, "bad", {"psi": 0.2})
CRITICAL = Finding(Severity.CRITICAL, "worse", {"psi": 0.4})


def _run(findings: list[Finding | None]) -> list[Alert | None]:
    """The rule's open alert after each check."""
    streak, alert = Streak(), None
    states: list[Alert | None] = []
    for number, finding in enumerate(findings):
        streak, after = step(FeatureDrift(), streak, alert, finding, LIMITS, T0 + number)
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
    streak, alert = step(NoChampion(), Streak(failing=2), None, WARNING, LIMITS, T0)
    assert alert is not None
    told = replace(alert, announced=True)
    _, worse = step(NoChampion(), streak, told, CRITICAL, LIMITS, T0 + 1)
    assert worse is not None
    assert (worse.severity, worse.announced, worse.alert_id) == (
        Severity.CRITICAL,
        False,
        alert.alert_id,
    )
    assert worse.event().timestamp == T0  # the same opening for training, which has had it
    _, milder = step(NoChampion(), streak, worse, WARNING, LIMITS, T0 + 2)
    assert milder is not None
    assert (milder.severity, milder.summary) == (Severity.CRITICAL, "bad")


def test_step_of_an_open_alert_that_goes_on_is_not_announced_again() -> None:
    streak, alert = step(NoChampion(), Streak(failing=2), None, WARNING, LIMITS, T0)
    assert alert is not None
    told = replace(alert, announced=True)
    _, on = step(NoChampion(), streak, told, WARNING, LIMITS, T0 + 1)
    _, passing = step(NoChampion(), streak, told, None, LIMITS, T0 + 1)
    assert on is not None
    assert passing is not None
    assert on.announced
    assert passing.announced


def test_transitions_are_openings_rises_and_closings() -> None:
    _, opened = step(NoChampion(), Streak(2), None, WARNING, LIMITS, T0)
    assert opened is not None
    _, worse = step(NoChampion(), Streak(), opened, CRITICAL, LIMITS, T0 + 1)
    assert worse is not None
    _, on = step(NoChampion(), Streak(), worse, WARNING, LIMITS, T0 + 2)
    assert on is not None
    states = [None, opened, worse, on, on.closed(T0 + 3)]
    passed = [transition(one, other) for one, other in pairwise(states) if other is not None]
    assert passed == ["opened", "worsened", None, "closed"]


def test_a_rule_with_a_time_of_its_own_fails_for_at_least_as_long() -> None:
    def limits(for_minutes: float) -> int:
        definition = AlertDefinition(
            metric="features_lag", comparison="above", threshold=1, for_minutes=for_minutes
        )
        return LIMITS.for_rule(ThresholdRule("r", 1, definition), interval_s=15).to_open

    assert [limits(minutes) for minutes in (0, 0.1, 1, 5)] == [1, 2, 5, 21]
    assert LIMITS.for_rule(ServiceDown(), 15) == LIMITS
    assert LIMITS.for_rule(NoChampion(), 15) == LIMITS._replace(to_close=1)


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
