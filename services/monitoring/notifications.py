"""Delivery of alerts to people, where no Alertmanager does it: each transition to each channel.

Notices wait in SQL since the transaction that made the transition, so that none is lost in a
restart. The instance that holds the lease sends them, in a thread of its own. A notice is delivered
at least once: it comes twice where an instance ends between the receiver's answer and the row, or
where the receiver takes it and answers too late. Every notice names alert and transition.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal

import orjson

from services.monitoring.alert_repository import NoticeBook, WaitingNotice
from services.monitoring.alert_rules import Alert, Attempt, Transition
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
    """Sends the notices that wait. One thread uses it.

    Args:
        book: The notices.
        channels: The channels by name.
        stack: Name of the stack, for titles.
        runbook: Address of the runbook.
        renew: Renews the lease, or raises: another instance may act by now.
        clock: The time, in ms.
    """

    def __init__(
        self,
        book: NoticeBook,
        channels: Mapping[str, Send],
        stack: str,
        runbook: str,
        renew: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._book, self._channels = book, channels
        self._stack, self._runbook = stack, runbook
        self._renew, self._clock = renew, clock

    def run(self, stop: threading.Event) -> None:
        """Send notices as they become due, until `stop` is set."""
        while not stop.wait(_LOOK_EVERY_S):
            try:
                self.step(stop)
            except DatabaseUnavailableError as error:
                log.warning("notices wait for the database", reason=str(error))

    def step(self, stop: threading.Event | None = None) -> None:
        """Attempt every notice that is due, oldest first.

        A notice waits for earlier ones of its alert on its channel. A channel that fails gets no
        other one in this step.
        """
        failed, held = set[str](), set[tuple[str, str]]()
        for waiting in self._book.waiting():
            if stop is not None and stop.is_set():
                return
            channel, of_alert = waiting.channel, (waiting.alert.alert_id, waiting.channel)
            if of_alert in held:
                continue
            if waiting.due_at > self._clock() or channel in failed:
                held.add(of_alert)
            elif not self._attempt(waiting):
                failed.add(channel)
                held.add(of_alert)

    def _attempt(self, waiting: WaitingNotice) -> bool:
        """Try to deliver a notice; whether it waits no more."""
        self._renew()
        send = self._channels.get(waiting.channel)
        if send is None:
            self._give_up(waiting, "this channel is no longer in the settings")
            return True
        reason = send(notice(waiting.alert, waiting.transition, self._stack, self._runbook))
        now_ms = self._clock()
        if not reason:
            self._book.note(waiting, Attempt(at=now_ms, outcome="delivered"), delivered=True)
            return True
        if now_ms - waiting.queued_at >= GIVEN_UP_AFTER_MS:
            self._give_up(waiting, reason)
            return True
        failures = waiting.attempts + 1
        pause_s = pause_after(failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._book.note(
            waiting, Attempt(at=now_ms, outcome=reason), due_at=now_ms + int(pause_s * 1000)
        )
        log.warning(
            "an alert was not delivered",
            **_names(waiting),
            reason=reason,
            failures=failures,
            again_in_s=pause_s,
        )
        return False

    def _give_up(self, waiting: WaitingNotice, reason: str) -> None:
        self._book.note(waiting, Attempt(at=self._clock(), outcome=f"given up: {reason}"))
        log.error("an alert is not delivered", **_names(waiting), reason=reason)


def _names(waiting: WaitingNotice) -> dict[str, str]:
    return {
        "alert": waiting.alert.alert_id,
        "transition": waiting.transition,
        "channel": waiting.channel,
    }
