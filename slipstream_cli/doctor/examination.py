"""The examination of a stack: figures are read, checked, and the findings put in order."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.monitoring.probes import Probes, ServiceState, Training
from slipstream.chassis.client import PeerError
from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.contracts.times import now_ms
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.online import OnlineStore
from slipstream.stores.tables import RECOMMENDATIONS
from slipstream_cli.backups.places import MIGRATIONS
from slipstream_cli.doctor import stack_checks as stack
from slipstream_cli.doctor import stack_reader
from slipstream_cli.doctor.catalogue_checks import check_catalogue, check_rules
from slipstream_cli.doctor.catalogue_reader import read_catalogue
from slipstream_cli.doctor.event_checks import check_events
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.event_reader import read_events
from slipstream_cli.doctor.findings import Finding, Weight, by_weight
from slipstream_cli.doctor.limits import Limits
from slipstream_cli.doctor.places import Places
from slipstream_cli.doctor.training_checks import TrainingFigures, check_training
from slipstream_cli.peers import every_item, peer_at, segment

_PROBE_S: Final = 5.0
_PAGE: Final = 200
# The most placements that monitoring gives at once.
_RECORDS_PAGE: Final = 50
T = TypeVar("T")


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
        limits: The most that is read.
        tell: Called with the part that is looked at next.
    """
    found, settings, now = Examination(), places.settings, now_ms()
    tell("looking at services")
    services, training, lag = _ask(places)
    found.looked_at["services"] = f"{len(services)}"
    found.findings += stack.check_services(
        [stack.ServiceFigures(each.name, each.state, each.detail) for each in services]
    )
    found.findings += stack.check_lag(*lag)
    found.findings += stack.check_disks(stack_reader.read_disks(places.folders))
    events, slates = EventFigures(), 0
    tell("looking at events")
    with _told(found, "the lake"):
        lake = LakeReader(settings.lake, settings.namespace)
        slates = lake.count(RECOMMENDATIONS)
        events = read_events(lake, limits)
        found.looked_at["events"] = f"{events.sampled:,} of {events.total:,}"
        found.findings += check_events(events, slates, now)
    tell("looking at catalogue")
    with _told(found, "Redis"):
        found.findings += _memory(places)
        figures, items = read_catalogue(settings.redis, settings.namespace, events, limits)
        found.looked_at["items"] = f"{figures.sampled:,}" + ("" if figures.whole else " of more")
        found.findings += check_catalogue(figures, events)
        found.findings += _rules(found, places, items, figures.whole)
    tell("looking at training")
    if training.reached:
        with _told(found, "training's decisions"):
            found.findings += check_training(_training(places, training), events, now)
    tell("looking at tables")
    with _told(found, "the database"):
        unapplied = stack_reader.read_tables(settings.database, MIGRATIONS)
        found.findings += stack.check_tables(unapplied)
    with _told(found, "monitoring's alerts and keys"):
        monitoring = peer_at("monitoring", places.urls["monitoring"])
        alerts = monitoring.get("/v1/alerts", state="open", limit=_PAGE)["items"]
        found.findings += stack.check_alerts(alerts)
        found.findings += stack.check_keys(every_item(monitoring, "/v1/keys", _PAGE), now)
    tell("looking at dead letters")
    with _told(found, "the broker"):
        letters = stack_reader.read_dead_letters(settings.kafka, settings.namespace, limits)
        found.looked_at["dead letters"] = f"{letters.codes.total():,}"
        found.findings += stack.check_letters(letters, events.total)
    found.findings = by_weight(found.findings)
    return found


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
                f"{place} can't be looked at: {error}",
                "what stands there is not judged here",
                "docs/runbook; SLIPSTREAM_… settings say where it is (docs/configuration.md)",
            )
        )


def _ask(places: Places) -> tuple[list[ServiceState], Training, tuple[int | None, bool]]:
    """The states of all services, training's answers, and features' lag."""
    training, features = (peer_at(name, places.urls[name]) for name in ("training", "features"))
    probes = Probes(places.urls, training, features, timeout_s=_PROBE_S)
    try:
        services, answers, status = probes.ask()
    finally:
        probes.close()
    return services, answers, (status.lag, status.caught_up) if status else (None, False)


def _memory(places: Places) -> list[Finding]:
    store = OnlineStore(places.settings.redis, places.settings.namespace)
    try:
        memory = store.memory()
    finally:
        store.close()
    return list(stack.check_redis(memory.used, memory.limit))


def _rules(
    found: Examination, places: Places, items: Mapping[str, Mapping[str, Any]], whole: bool
) -> list[Finding]:
    findings = list[Finding]()
    with _told(found, "monitoring's placements"):
        monitoring = peer_at("monitoring", places.urls["monitoring"])
        rules = stack_reader.rule_filters(every_item(monitoring, "/v1/placements", _RECORDS_PAGE))
        findings += check_rules(rules, items, whole)
    return findings


def _training(places: Places, training: Training) -> TrainingFigures:
    """Training's answers, with the numbers of its last decision."""
    judged = next((run for run in training.runs if run.decision), None)
    decisions = []
    if judged:
        peer = peer_at("training", places.urls["training"])
        decisions = peer.get(f"/v1/runs/{segment(judged.run_id)}/decisions")
    champion = training.champion.model if training.champion else None
    return TrainingFigures(champion, training.runs, decisions[-1]["numbers"] if decisions else {})
