"""The examination of a stack: its places are found, figures are read and checked, and the findings
put in order.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.monitoring.probes import Probes, ServiceState, Training
from slipstream.chassis.client import PeerError
from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.contracts.services import SERVICES
from slipstream.contracts.times import now_ms
from slipstream.evaluation.data_checks import (
    COLUMNS,
    EventFigures,
    check_catalogue,
    check_events,
)
from slipstream.evaluation.findings import Finding, Weight
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.tables import INTERACTIONS
from slipstream_cli.backups.places import settings_of
from slipstream_cli.doctor import stack
from slipstream_cli.doctor.catalogue import check_rules, read_catalogue, rule_filters
from slipstream_cli.doctor.findings import Limits, by_weight
from slipstream_cli.peers import asleep, every_item, explained_errors, peer_at, stack_on, target_url

if TYPE_CHECKING:
    from services.training.settings import TrainingSettings

_ELSEWHERE = "the variables SLIPSTREAM_PEERS__…_URL (docs/configuration.md)"


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a stack.

    Attributes:
        settings: Settings of broker, Redis, lake, database and artifacts.
        urls: URLs of the five services, by name.
    """

    settings: "TrainingSettings"
    urls: Mapping[str, str]


def places_of(data_dir: Path) -> Places:
    """Find the stack on a data folder, or the one that the environment names.

    Raises:
        click.ClickException: No stack runs on the folder, and another one or none is named.
    """
    urls = {name: target_url(name, None, data_dir, otherwise=_ELSEWHERE)[0] for name in SERVICES}
    return Places(settings_of(data_dir, stack_on(data_dir)), urls)


_PROBE_S: Final = 5.0
_PAGE: Final = 200
# The most placements that monitoring gives at once.
_RECORDS_PAGE: Final = 50


@dataclass(slots=True)
class Examination:
    """The result of an examination.

    Attributes:
        findings: The findings, heaviest first.
        looked_at: What was looked at, in words, with its size.
    """

    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[str, str] = field(default_factory=dict)


def examine(
    places: Places, limits: Limits, tell: Callable[[str], None] = lambda _: None
) -> Examination:
    """Look at a stack and its data.

    What can't be read is a finding of its own, and the rest is looked at all the same.

    Args:
        places: Where the stack's parts are.
        tell: Called with the part that is looked at next.

    Raises:
        click.ClickException: Monitoring wants another token.
    """
    found, settings = Examination(), places.settings
    monitoring = peer_at("monitoring", places.urls["monitoring"])
    tell("looking at services")
    with explained_errors(places.urls["monitoring"], ""):
        may_sleep = asleep(monitoring)
    services, training = _ask(places, may_sleep)
    found.looked_at["services"] = f"{len(services)}"
    if asleep_here := [each.name for each in services if each.state == "asleep"]:
        found.looked_at["asleep"] = " and ".join(asleep_here)
    found.findings += stack.check_services(services)
    events = EventFigures()
    tell("looking at events")
    with _told(found, "the lake"):
        lake = LakeReader(settings.lake, settings.namespace)
        events = read_events(lake, limits)
        found.looked_at["events"] = f"{events.sampled:,} of {events.total:,}"
        found.findings += check_events(events, now_ms())
    tell("looking at catalogue")
    with _told(found, "Redis"):
        figures = read_catalogue(settings.redis, settings.namespace, events, limits)
        found.looked_at["items"] = f"{len(figures.items):,}" + " or more" * (not figures.whole)
        found.findings += check_catalogue(figures)
        with _told(found, "monitoring's placements"):
            rules = rule_filters(every_item(monitoring, "/v1/placements", _RECORDS_PAGE))
            found.findings += check_rules(rules, figures.items, figures.whole)
    if training.reached:
        found.findings += stack.check_training(
            training.champion is not None and training.champion.model is not None,
            training.runs,
            events.total,
        )
    with _told(found, "monitoring's alerts"):
        alerts = monitoring.get("/v1/alerts", state="open", limit=_PAGE)["items"]
        found.findings += stack.check_alerts(alerts)
    tell("looking at dead letters")
    with _told(found, "the broker"):
        letters = stack.read_dead_letters(settings.kafka, settings.namespace, limits)
        found.looked_at["dead letters"] = f"{letters.codes.total():,}"
        found.findings += stack.check_letters(letters, events.total)
    found.findings = by_weight(found.findings)
    return found


def read_events(lake: LakeReader, limits: Limits) -> EventFigures:
    """Count the newest interactions, until a limit of rows, bytes or seconds is reached.

    Raises:
        LakeUnavailableError: The lake can't be read.
    """
    figures = EventFigures(total=lake.count(INTERACTIONS))
    until, read_bytes = time.monotonic() + limits.seconds, 0
    for batch in lake.newest(INTERACTIONS, COLUMNS):
        figures.count(batch.slice(0, limits.events - figures.sampled))
        read_bytes += batch.nbytes
        if (
            figures.sampled >= limits.events
            or read_bytes >= limits.event_bytes
            or time.monotonic() > until
        ):
            break
    return figures


@contextmanager
def _told(found: Examination, place: str) -> Iterator[None]:
    """Within the block, a place that can't be read is a finding."""
    try:
        yield
    except (DependencyUnavailableError, RefusedSettingsError, PeerError) as error:
        found.findings.append(
            Finding(
                "not_readable",
                Weight.CRITICAL,
                f"{place} can't be read: {error}",
                "its data was not checked",
                "docs/runbook; SLIPSTREAM_… settings say where it is (docs/configuration.md)",
            )
        )


def _ask(places: Places, may_sleep: set[str]) -> tuple[list[ServiceState], Training]:
    """The states of all services, and training's answers."""
    training, features = (peer_at(name, places.urls[name]) for name in ("training", "features"))
    probes = Probes(places.urls, training, features, timeout_s=_PROBE_S, may_sleep=may_sleep)
    try:
        services, answers, _ = probes.ask()
    finally:
        probes.close()
    return services, answers
