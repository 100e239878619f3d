"""Checks of the parts of a stack: services, training's runs, dead letters, open alerts."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from services.monitoring.probes import ServiceState
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.rest import Run
from slipstream.evaluation.findings import Finding, Weight, counted, some
from slipstream_cli.dead_letters.letters import stored_letters
from slipstream_cli.doctor.findings import Limits

# Rejected events as a share of those taken.
_MANY_LETTERS: Final = 0.01
# Alerts that say what a check of this command says from nearer by.
_OWN: Final = frozenset({"service_down", "no_champion"})


@dataclass(frozen=True, slots=True)
class LetterFigures:
    """Dead letters by code; `all_read` is false where the topic has more than were read."""

    codes: Counter[str] = field(default_factory=Counter)
    all_read: bool = True


def read_dead_letters(kafka: KafkaSettings, namespace: str, limits: Limits) -> LetterFigures:
    """Count the dead letters of the topic by code, within the limits.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    codes, all_read = Counter[str](), True
    until = time.monotonic() + limits.seconds
    letters = stored_letters(kafka, namespace)
    for letter in islice(letters, limits.letters + 1):
        if codes.total() >= limits.letters or time.monotonic() > until:
            all_read = False
            break
        if not letter.marked:
            codes[letter.record.code] += 1
    letters.close()
    return LetterFigures(codes, all_read)


def check_services(services: Sequence[ServiceState]) -> Iterator[Finding]:
    """Find services that do not answer, or say that they are not ready.

    One that is scaled to zero is no trouble.
    """
    for service in services:
        if service.state not in ("ready", "asleep"):
            yield Finding(
                "service_down",
                Weight.CRITICAL,
                f"{service.name} is {service.state}"
                + (f": {service.detail}" * bool(service.detail)),
                "acknowledged events are safe, but this part does not work",
                "docs/runbook/service_down.md",
            )


def check_training(has_model: bool, runs: Sequence[Run], events: int) -> Iterator[Finding]:
    """Judge the latest runs, newest first, in view of the number of events in the lake."""
    ended = [run for run in runs if run.finished_at is not None]
    if ended and ended[0].state == "failed":
        yield Finding(
            "run_failed",
            Weight.WARNING,
            f"the last run, {ended[0].run_id}, has failed: {ended[0].error or 'without a reason'}",
            "the model is not renewed",
            f"slipstream runs show {ended[0].run_id}",
        )
    if has_model or not events:
        return
    judged = next((run for run in runs if run.decision), None)
    yield Finding(
        "no_model",
        Weight.WARNING,
        f"no model is in service, and the lake has {events:,} events"
        + (f"; the gate refused {judged.run_id}: {judged.decision_reason}" if judged else ""),
        "visitors get similar or trending items",
        f"slipstream runs show {judged.run_id} (docs/runbook/challenger-refused.md)"
        if judged
        else "slipstream runs start --follow",
    )


def check_letters(letters: LetterFigures, events: int) -> Iterator[Finding]:
    """Find rejected events, and compare their number with that of the events in the lake."""
    count = sum(letters.codes.values())
    if count:
        codes = some(f"{code} {number:,}" for code, number in letters.codes.most_common())
        yield Finding(
            "dead_letters",
            Weight.WARNING if count > _MANY_LETTERS * events else Weight.NOTE,
            f"{'' if letters.all_read else 'at least '}{counted(count, 'dead letter')}, compared"
            f" with {counted(events, 'event')} in the lake: {codes}",
            "rejected events count nowhere until they are repaired and sent again",
            "slipstream dead-letters list; docs/runbook/dead-letters.md",
        )


def check_alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Repeat the open alerts of monitoring, with their severity, that no other check tells."""
    for alert in alerts:
        if alert["rule"] not in _OWN:
            yield Finding(
                f"alert_{alert['rule']}",
                Weight[alert["severity"].upper()],
                f"open alert: {alert['summary']}",
                "monitoring found it in several checks in a row",
                f"docs/runbook/{alert['rule']}.md",
            )
