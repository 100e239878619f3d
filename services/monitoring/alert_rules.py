"""The built-in rules of alerts, and the opening and closing of alerts by their findings.

Each rule judges a snapshot. `judgeable` is false while the snapshot says too little. The rule is
then passed over, which neither opens nor closes an alert. Rules that are one figure and a threshold
are data (`threshold_rules.py`). Pure functions; the repository keeps streaks and alerts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol

from pydantic import BaseModel

from services.monitoring.click_trend import LASTING
from services.monitoring.drift_watch import SHIFT_WINDOWS
from services.monitoring.snapshot import Snapshot
from slipstream.contracts.events import AlertEvent, Severity

Action = Literal["retrain", "hold", "none"]
Transition = Literal["opened", "worsened", "closed"]


class Finding(NamedTuple):
    """A rule's finding against the present state: severity, a sentence, and its figures.

    Among the figures of a built-in one that asks for a run is its `onset`, see `AlertEvent`.
    """

    severity: Severity
    summary: str
    evidence: Mapping[str, Any]


class Streak(NamedTuple):
    """Consecutive checks of a rule: failed ones without an open alert, passed ones with it."""

    failing: int = 0
    passing: int = 0


class Hysteresis(NamedTuple):
    """The numbers of consecutive checks that open and close an alert."""

    to_open: int
    to_close: int

    def for_rule(self, rule: "Rule", interval_s: float) -> "Hysteresis":
        """The numbers for a rule: its checks to open last for its `for_minutes` at least."""
        to_close = 1 if rule.closes_at_once else self.to_close
        if rule.for_minutes is None:
            return self._replace(to_close=to_close)
        return Hysteresis(1 + ceil(60 * rule.for_minutes / interval_s), to_close)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, open until `closed_at` (ms).

    `announced` says whether its present state is on `alerts.v1`.
    """

    alert_id: str
    rule: str
    severity: Severity
    summary: str
    evidence: Mapping[str, Any]
    action: Action
    opened_at: int
    checked_at: int
    closed_at: int | None = None
    announced: bool = False
    runbook: str = ""

    def closed(self, now_ms: int) -> "Alert":
        """The alert as it closes at this time."""
        return replace(self, checked_at=now_ms, closed_at=now_ms, announced=False)

    def event(self) -> AlertEvent:
        """The alert's record for the topic. Only an opening asks for an action.

        Training tells by rule and time whether it has had the alert, so a record that is sent again
        has the time of the first one.
        """
        closed = self.closed_at is not None
        return AlertEvent(
            alert_id=self.alert_id,
            rule=self.rule,
            severity=self.severity,
            state="closed" if closed else "opened",
            summary=self.summary,
            evidence=dict(self.evidence),
            action="retrain" if self.action == "retrain" and not closed else "none",
            hold=self.action == "hold" and not closed,
            onset=None if closed else self.evidence.get("onset"),
            timestamp=self.opened_at if self.closed_at is None else self.closed_at,
        )


class Acknowledgement(BaseModel):
    """A person's word that an alert is known: when (ms), by which key, and a note."""

    at: int
    by: str
    note: str


class Rule(Protocol):
    """A rule.

    Its `name` is stable: the key on the topic, and a label in Prometheus. `runbook` is a text or
    link for people. Its alert opens once it has failed for `for_minutes`; None for the number of
    checks that the settings say. One that `closes_at_once` needs a single check for that.
    """

    @property
    def name(self) -> str: ...

    @property
    def action(self) -> Action: ...

    @property
    def runbook(self) -> str: ...

    @property
    def for_minutes(self) -> float | None: ...

    @property
    def closes_at_once(self) -> bool: ...

    def judgeable(self, snapshot: Snapshot) -> bool: ...

    def check(self, snapshot: Snapshot) -> Finding | None: ...


def step(
    rule: Rule,
    streak: Streak,
    alert: Alert | None,
    finding: Finding | None,
    limits: Hysteresis,
    now_ms: int,
) -> tuple[Streak, Alert | None]:
    """Judge one more check of a rule.

    An open alert takes the newest finding's words and figures. Its severity only rises, and a rise
    is announced again under the same id.

    Args:
        streak: Checks in a row so far.
        alert: The rule's open alert, if any.
        finding: The result of this check; None when it passed.
        limits: Numbers of checks that open and close an alert.

    Returns:
        The new streak; and the alert, where it opened, went on or closed, else None.
    """
    if alert is None:
        failing = streak.failing + 1 if finding else 0
        if finding is None or failing < limits.to_open:
            return Streak(failing=failing), None
        return Streak(), Alert(
            f"{rule.name}-{now_ms}",
            rule.name,
            finding.severity,
            finding.summary,
            finding.evidence,
            rule.action,
            now_ms,
            now_ms,
            runbook=rule.runbook,
        )
    if finding is not None:
        worse = finding.severity is Severity.CRITICAL and alert.severity is not Severity.CRITICAL
        evidence = dict(finding.evidence)
        if "onset" in alert.evidence:  # the periods that are judged move on, the onset stays
            evidence["onset"] = alert.evidence["onset"]
        return Streak(), replace(
            alert,
            severity=Severity.CRITICAL if worse else alert.severity,
            summary=finding.summary,
            evidence=evidence,
            checked_at=now_ms,
            announced=alert.announced and not worse,
            runbook=rule.runbook,
        )
    passing = streak.passing + 1
    if passing < limits.to_close:
        return Streak(passing=passing), replace(alert, checked_at=now_ms)
    return Streak(), alert.closed(now_ms)


def transition(before: Alert | None, after: Alert) -> Transition | None:
    """The transition from one state of an alert to the next that people get a notice of."""
    if before is None:
        return "opened"
    if after.closed_at is not None:
        return "closed"
    return "worsened" if after.severity is not before.severity else None


class BuiltInRule:
    """The fields of a built-in rule, which has a page of its name in the runbook."""

    name: ClassVar[str]
    action: ClassVar[Action] = "none"
    for_minutes: ClassVar[float | None] = None
    closes_at_once: ClassVar[bool] = False

    @property
    def runbook(self) -> str:
        """The page."""
        return f"docs/runbook/{self.name}.md"


class ServiceDown(BuiltInRule):
    """A service does not answer (critical), or says itself that it is not ready (warning).

    One that sleeps is no trouble: Prometheus' rule `NotWaking` knows whether work waits for it.
    """

    name: ClassVar[str] = "service_down"

    def judgeable(self, snapshot: Snapshot) -> bool:
        return bool(snapshot.services)

    def check(self, snapshot: Snapshot) -> Finding | None:
        troubled = [s for s in snapshot.services if s.state not in ("ready", "asleep")]
        if not troubled:
            return None
        away = any(service.state == "away" for service in troubled)
        words = ", ".join(
            f"{s.name} is {s.state}" + (f" ({', '.join(s.down)} down)" if s.down else "")
            for s in troubled
        )
        evidence = {service.name: service.detail for service in troubled}
        return Finding(Severity.CRITICAL if away else Severity.WARNING, words, evidence)


class NoChampion(BuiltInRule):
    """Training says that no model is in service, though one has been."""

    name: ClassVar[str] = "no_champion"
    # A model is in service or not: there is no noise to wait out.
    closes_at_once: ClassVar[bool] = True

    def judgeable(self, snapshot: Snapshot) -> bool:
        known = snapshot.training.champion is not None or snapshot.had_champion
        return snapshot.training.reached and known

    def check(self, snapshot: Snapshot) -> Finding | None:
        if snapshot.training.champion is not None:
            return None
        return Finding(
            Severity.WARNING, "no model is in service: visitors get similar or trending items", {}
        )


class FeatureDrift(BuiltInRule):
    """What visitors do has changed, in two windows in a row: the model reads what it has not
    learned from. While the data is at fault there is no verdict.
    """

    name: ClassVar[str] = "feature_drift"
    action: ClassVar[Action] = "retrain"

    def judgeable(self, snapshot: Snapshot) -> bool:
        features = snapshot.drift.shifts.features
        known = any(each.of == "read" and each.level != "unknown" for each in features)
        return known and not snapshot.drift.faults.faults

    def check(self, snapshot: Snapshot) -> Finding | None:
        shifts = snapshot.drift.shifts
        drifted = [each for each in shifts.features if each.lasting]
        if not drifted or shifts.start is None:
            return None
        critical = any(each.level == "critical" for each in drifted)
        worst = max(drifted, key=lambda each: each.psi or 0.0)
        return Finding(
            Severity.CRITICAL if critical else Severity.WARNING,
            f"{len(drifted)} of {len(shifts.features)} measures of visitors have"
            f" shifted, {worst.feature} most (PSI {worst.psi:.2f})",
            {
                "model_version": shifts.model_version,
                "psi": {each.feature: round(each.psi or 0.0, 4) for each in drifted},
                "p": {each.feature: each.p for each in drifted},
                "visitors": worst.visitors,
                "window_start": shifts.start,
                "window_ms": shifts.window_ms,
                "onset": shifts.start - (SHIFT_WINDOWS - 1) * shifts.window_ms,
            },
        )


class DataFault(BuiltInRule):
    """The data is at fault: no model should be trained on it, and training promotes none."""

    name: ClassVar[str] = "data_fault"
    action: ClassVar[Action] = "hold"

    def judgeable(self, snapshot: Snapshot) -> bool:
        return snapshot.drift.faults.judged

    def check(self, snapshot: Snapshot) -> Finding | None:
        found = snapshot.drift.faults
        if not found.faults:
            return None
        return Finding(
            Severity.CRITICAL,
            "; ".join(f"{each.measure}: {each.why}" for each in found.faults),
            {
                "faults": {each.measure: each.why for each in found.faults},
                "window_start": found.start,
                "window_ms": found.window_ms,
            },
        )


class ClickThroughDropped(BuiltInRule):
    """A placement's slates are clicked less than at the same weekdays before, for two periods, by
    more than chance. While the data is at fault there is no verdict.
    """

    name: ClassVar[str] = "click_through_dropped"
    action: ClassVar[Action] = "retrain"

    def judgeable(self, snapshot: Snapshot) -> bool:
        return bool(snapshot.trend.placements) and not snapshot.drift.faults.faults

    def check(self, snapshot: Snapshot) -> Finding | None:
        fell = [each for each in snapshot.trend.placements if each.fell]
        if not fell:
            return None
        words = "; ".join(
            f"{each.placement or 'requests without a placement'}: from {each.before.value:.1%} to"
            f" {each.current.value:.1%}"
            for each in fell
        )
        return Finding(
            Severity.WARNING,
            f"click-through fell: {words}",
            {
                "placements": {each.placement: each.model_dump() for each in fell},
                "period_ms": snapshot.trend.period_ms,
                "until": snapshot.trend.until,
                "onset": snapshot.trend.until - LASTING * snapshot.trend.period_ms,
            },
        )


class CanaryReturned(BuiltInRule):
    """A guard stopped a canary in the last day, and it was neither restarted nor deleted since."""

    name: ClassVar[str] = "canary_returned"

    def judgeable(self, snapshot: Snapshot) -> bool:  # noqa: ARG002
        return True

    def check(self, snapshot: Snapshot) -> Finding | None:
        if not snapshot.returned:
            return None
        words = "; ".join(
            f"canary {it.model} of experiment {it.experiment} was returned: {it.reason}"
            for it in snapshot.returned
        )
        evidence = {it.experiment: it.model_dump() for it in snapshot.returned}
        return Finding(Severity.WARNING, words, evidence)


# Rules that need more than one figure and a threshold, in the order of judging.
BUILT_IN: Final[Sequence[Rule]] = (
    ServiceDown(),
    NoChampion(),
    FeatureDrift(),
    DataFault(),
    ClickThroughDropped(),
    CanaryReturned(),
)
