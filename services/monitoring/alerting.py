"""When a finding becomes an alert, and when an alert ends. Pure: the streaks and alerts are kept by
the repository.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from slipstream.contracts.events import AlertEvent, Severity

Action = Literal["retrain", "none"]


class Finding(NamedTuple):
    """What a rule has against the present state: how bad, in one sentence, and the figures behind
    it.
    """

    severity: Severity
    summary: str
    evidence: Mapping[str, Any]


class Streak(NamedTuple):
    """Checks of a rule in a row that failed while no alert is open, or that passed while one is."""

    failing: int = 0
    passing: int = 0


class Hysteresis(NamedTuple):
    """So many failing checks in a row open an alert, so many good ones close it."""

    to_open: int
    to_close: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert; open until `closed_at`. `announced` says whether its present state was told on
    `alerts.v1`.
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
        """What is told on the topic. Only an opening asks for an action."""
        closed = self.closed_at is not None
        return AlertEvent(
            alert_id=self.alert_id,
            rule=self.rule,
            severity=self.severity,
            state="closed" if closed else "opened",
            summary=self.summary,
            evidence=dict(self.evidence),
            action="none" if closed else self.action,
            timestamp=self.closed_at or self.checked_at,
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
    """One more check of a rule. Returns its streak, and its alert where one opened, went on or
    closed, else None.

    An open alert takes the newest finding's words and figures. Its severity only rises, and a rise
    is announced again under the same id.
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
