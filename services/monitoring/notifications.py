"""Delivery of alerts to people, where no Alertmanager does it: each transition to each channel.

What is to be sent is in the alert's row since the transaction that made the transition, so that no
notice is lost in a restart. The instance that holds the lease sends it, in a thread of its own. A
notice is delivered at least once: it comes twice where an instance ends between the receiver's
answer and the row, or where the receiver takes it and answers too late. Every notice names alert
and transition.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import orjson

from services.monitoring.alert_repository import AlertBook, UnsentNotice
from services.monitoring.alert_rules import Alert, Transition
from services.monitoring.channels import Notice, Send
from services.monitoring.runbook import address
from slipstream.chassis.logging import get_logger
from slipstream.chassis.pauses import pause_after
from slipstream.contracts.times import DAY_MS, format_time
from slipstream.stores.metadata import DatabaseUnavailableError

log = get_logger(__name__)

_LOOK_EVERY_S: Final = 1.0
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 900.0
# Age from which a notice is given up.
GIVEN_UP_AFTER_MS: Final = DAY_MS
_LONGEST_EVIDENCE: Final = 4_000


class _Failures(NamedTuple):
    """How often a channel has not taken an alert's notice, and when it is sent again (ms)."""

    times: int
    again_at: int


def notice(alert: Alert, transition: Transition, stack: str, runbook: str) -> Notice:
    """The message about a transition of an alert, with its newest summary and evidence."""
    kind: Literal["warning", "failure", "success"] = (
        "success"
        if transition == "closed"
        else "failure"
        if alert.severity == "critical"
        else "warning"
    )
    evidence = orjson.dumps(alert.evidence, option=orjson.OPT_INDENT_2).decode()
    lines = [
        alert.summary,
        f"Open since {format_time(alert.opened_at)}"
        + (f", closed {format_time(alert.closed_at)}" if alert.closed_at is not None else ""),
        f"Runbook: {address(alert.runbook, runbook)}" if alert.runbook else "",
        evidence[:_LONGEST_EVIDENCE] if alert.evidence else "",
        f"Alert {alert.alert_id}, {transition}",
    ]
    title = f"{stack}: {alert.rule} {transition} ({alert.severity.value})"
    return Notice(title, "\n\n".join(filter(None, lines)), kind)


class Notifier:
    """Sends what is unsent. One thread uses it.

    Args:
        renew: Renews the lease, or raises: another instance may act by now.
        clock: The time, in ms.
    """

    def __init__(
        self,
        book: AlertBook,
        channels: Mapping[str, Send],
        stack: str,
        runbook: str,
        renew: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._book, self._channels = book, channels
        self._stack, self._runbook = stack, runbook
        self._renew, self._clock = renew, clock
        self._failures: dict[tuple[str, str], _Failures] = {}

    def run(self, stop: threading.Event) -> None:
        """Send notices as they become due, until `stop` is set."""
        while not stop.wait(_LOOK_EVERY_S):
            try:
                self.step(stop)
            except DatabaseUnavailableError as error:
                log.warning("notices wait for the database", reason=str(error))

    def step(self, stop: threading.Event | None = None) -> None:
        """Send every notice that is due, oldest alert first.

        A notice waits for earlier ones of its alert on its channel. A channel that fails gets no
        other one in this step.
        """
        failed, held = set[str](), set[tuple[str, str]]()
        for unsent in self._book.unsent():
            if stop is not None and stop.is_set():
                return
            of_alert = (unsent.alert.alert_id, unsent.channel)
            before = self._failures.get(of_alert)
            if of_alert in held:
                continue
            if unsent.channel in failed or (before and before.again_at > self._clock()):
                held.add(of_alert)
            elif reason := self._send(unsent):
                self._note_failure(unsent, reason)
                failed.add(unsent.channel)
                held.add(of_alert)

    def _send(self, unsent: UnsentNotice) -> str:
        """Send a notice, or give it up; returns why it is to be sent again."""
        self._renew()
        send = self._channels.get(unsent.channel)
        if send is None:
            reason = "this channel is no longer in the settings"
        else:
            reason = send(notice(unsent.alert, unsent.transition, self._stack, self._runbook))
            if reason and self._clock() - unsent.at < GIVEN_UP_AFTER_MS:
                return reason
        self._book.mark_sent(unsent)
        self._failures.pop((unsent.alert.alert_id, unsent.channel), None)
        if reason:
            log.error("an alert is not delivered", **_names(unsent), reason=reason)
        return ""

    def _note_failure(self, unsent: UnsentNotice, reason: str) -> None:
        of_alert = (unsent.alert.alert_id, unsent.channel)
        before = self._failures.get(of_alert)
        times = before.times + 1 if before else 1
        pause_s = pause_after(times, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._failures[of_alert] = _Failures(times, self._clock() + int(pause_s * 1000))
        log.warning(
            "an alert was not delivered",
            **_names(unsent),
            reason=reason,
            failures=times,
            again_in_s=pause_s,
        )


def _names(unsent: UnsentNotice) -> dict[str, str]:
    return {
        "alert": unsent.alert.alert_id,
        "transition": unsent.transition,
        "channel": unsent.channel,
    }
