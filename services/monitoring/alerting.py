"""The opening and closing of alerts.

Pure functions; the repository keeps streaks and alerts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from slipstream.contracts.events import AlertEvent, Severity

Action = Literal["retrain", "none"]


class Finding(NamedTuple):
    """A rule's finding against the present state: severity, a sentence, and its figures."""

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
            action="none" if closed else self.action,
            timestamp=self.opened_at if self.closed_at is None else self.closed_at,
        )


def step(
    rule: str,
    action: Action,
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
        rule: Name of the rule.
        action: The action that an opening asks for.
        streak: Checks in a row so far.
        alert: The rule's open alert, if any.
        finding: The result of this check; None when it passed.
        limits: Numbers of checks that open and close an alert.
        now_ms: Time of this check.

    Returns:
        The new streak; and the alert, where it opened, went on or closed, else None.
    """
    if alert is None:
        failing = streak.failing + 1 if finding else 0
        if finding is None or failing < limits.to_open:
            return Streak(failing=failing), None
        alert_id = f"{rule}-{now_ms}"
        return Streak(), Alert(
            alert_id,
            rule,
            finding.severity,
            finding.summary,
            finding.evidence,
            action,
            now_ms,
            now_ms,
        )
    if finding is not None:
        worse = finding.severity is Severity.CRITICAL and alert.severity is not Severity.CRITICAL
        return Streak(), replace(
            alert,
            severity=Severity.CRITICAL if worse else alert.severity,
            summary=finding.summary,
            evidence=finding.evidence,
            checked_at=now_ms,
            announced=alert.announced and not worse,
        )
    passing = streak.passing + 1
    if passing < limits.to_close:
        return Streak(passing=passing), replace(alert, checked_at=now_ms)
    return Streak(), replace(alert, checked_at=now_ms, closed_at=now_ms, announced=False)
