"""The scenario: the demo runs on the project, containers crash, the project is scaled out and
containers crash again; nothing is lost.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from slipstream.contracts.services import SERVICES
from slipstream.datasets.interactions import read_interactions
from slipstream_cli.demo.story import Click, Demo
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal
from tests.compose.comparison import COLUMNS, Accepted, compare_counts, compare_lake
from tests.compose.crashes import PATIENCE_S, Crash, Crashes, features_of
from tests.compose.project import ENVIRONMENT, WRITE_KEY, Project
from tests.e2e.stack import wait_for
from tests.faults.client import Client
from tests.faults.reckoning import Findings

# Events a second while containers crash.
RATE = 30.0
REPLICAS = {"ingestion": 2, "features": 3, "serving": 2}
# What crashes of the project that is scaled out: one of each kind that has a new surrounding.
CRASHED_OF_SEVERAL = ("kafka-1", "redis-1", "ingestion-1", "features-2", "serving-1", "proxy-1")


@dataclass
class Result:
    """What was done and what was found. `times` in seconds, `figures` in counts."""

    times: dict[str, float] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    crashes: list[Crash] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def lines(self) -> Iterator[str]:
        for name, seconds in self.times.items():
            yield f"{name:<32} {seconds:.1f} s"
        for name, count in self.figures.items():
            yield f"{name:<32} {count:,}"
        yield from map(str, self.crashes)
        for kind in ("lost", "double"):
            yield f"{kind:<32} {len(self.findings.wrong.get(kind, ())):,}"


def run(project: Project, folder: Path, movielens: Path | None) -> Result:
    """Build and start the project, take it through the scenario, and compare what its stores hold
    with what was accepted.

    Args:
        project: The project, without containers.
        folder: An empty folder.
        movielens: Folder with MovieLens-100K; None fetches it.
    """
    result = Result()
    with timed(result, "images built in"):
        project.build()
    with timed(result, "from nothing to all healthy"):
        project.up()
    result.figures["containers"] = len(project.containers())
    with timed(result, "the demo"):
        history = _demo(project, folder, movielens)
    result.figures["events of the demo"] = history.num_rows

    crashes = Crashes(project)
    with _load(project) as client:
        with _each_restarts_once(project, result, sorted(project.containers())) as names:
            for name in names:
                crashes.crash(name)
        with timed(result, "scaled out"):
            project.scale_out(REPLICAS)
        result.figures["containers, scaled out"] = len(project.containers())
        with _each_restarts_once(project, result, CRASHED_OF_SEVERAL) as names:
            for name in names:
                crashes.crash(name)
    result.crashes = crashes.done
    _answers(project)

    wait_for(lambda: _caught_up(project), "features to catch up", PATIENCE_S)
    acknowledged = [*client.acknowledged, *crashes.probes]
    sent = Accepted(history, acknowledged, client.unacknowledged)
    with timed(result, "compared"):
        compare_counts(
            result.findings,
            lambda view, name: dict(features_of(project, view, name)["counts"]),
            sent,
        )
        project.stop("features")  # so that its lake keeps still
        compare_lake(result.findings, project.lake(folder), sent)
    for rejected in client.rejected:
        result.findings.say("rejected", rejected)
    result.figures["events accepted while crashing"] = result.findings.figures.pop("events_due")
    result.figures |= {
        name.replace("_", " "): count for name, count in result.findings.figures.items()
    }
    return result


@contextmanager
def timed(result: Result, name: str) -> Iterator[None]:
    """Keep how long the block took."""
    start = time.monotonic()
    yield
    result.times[name] = time.monotonic() - start


def _demo(project: Project, folder: Path, movielens: Path | None) -> pa.Table:
    """Run the demo; its events, with the clicks that it sent."""
    ports = {name: service.port for name, service in SERVICES.items()}
    demo = Demo(Plan(folder, ports, ENVIRONMENT), Terminal(), movielens)
    files = demo.run(lambda: None)
    events = read_interactions(files.interactions).select(COLUMNS)
    assert project.get("features", "/v1/status")["lake"]["interactions"] >= events.num_rows
    return pa.concat_tables([events, _table(demo.clicks, events.schema)])


def _table(clicks: list[Click], schema: pa.Schema) -> pa.Table:
    rows = [
        {
            "user_id": click.user_id,
            "item_id": click.item_id,
            "event_type": "click",
            "timestamp": click.timestamp,
        }
        for click in clicks
    ]
    return pa.Table.from_pylist(rows, schema=schema)


@contextmanager
def _load(project: Project) -> Iterator[Client]:
    """A client that sends within the block; after it, everything that it sent is acknowledged, or
    was not for long.
    """
    over = threading.Event()
    client = Client([str(project.clients["ingestion"].base_url)], WRITE_KEY, seed=1, rate=RATE)
    sending = threading.Thread(
        target=client.run, args=(0, PATIENCE_S, lambda: not over.is_set(), 3_600.0), daemon=True
    )
    sending.start()
    try:
        yield client
    finally:
        over.set()
        sending.join()


@contextmanager
def _each_restarts_once(
    project: Project, result: Result, names: Sequence[str]
) -> Iterator[Sequence[str]]:
    """Say which of these containers did not restart once within the block, and which others did."""
    before = {name: container.restarts for name, container in project.containers().items()}
    yield names
    for name, container in project.containers().items():
        restarts = container.restarts - before.get(name, 0)
        if restarts != (name in names):
            result.findings.say("restarts", f"{name}: {restarts}")


def _answers(project: Project) -> None:
    """Wait until every serving answers by the champion."""
    version = project.get("training", "/v1/aliases/champion")["version"]

    def answered() -> bool:
        answers = project.each("serving", "/v1/recommendations/1?n=5")
        return all(
            (answer["answered_by"], answer["model_version"]) == ("model", version)
            and len(answer["items"]) == 5
            for answer in answers
        )

    wait_for(answered, "answers by the model", PATIENCE_S)


def _caught_up(project: Project) -> bool:
    return all(status["caught_up"] for status in project.each("features", "/v1/status"))
