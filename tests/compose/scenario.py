"""The scenario: a shop's history is sent, a model learns from it and answers, each container
crashes once, nothing is lost.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipstream.datasets.replay import replay
from slipstream.datasets.simulator import SimulatedFiles, Simulation, simulate
from tests.compose.comparison import Accepted, compare_counts, compare_lake
from tests.compose.project import WRITE_KEY, Project
from tests.e2e.stack import wait_for
from tests.faults.client import Client
from tests.faults.reckoning import Findings
from tests.faults.traffic import Event, Sent

RATE = 30.0
PATIENCE_S = 120.0
RUN_LIMIT_S = 900.0
# Sooner, the engine would take the next crash for one of a container that never came up, and wait
# before it starts it again.
SETTLED_S = 10.0


@dataclass(frozen=True)
class Crash:
    """A container's crash, and seconds after it: until its process ran again, and until all
    containers were healthy.
    """

    service: str
    started_s: float
    healthy_s: float
    # until a new event was applied; only of features
    applied_s: float | None = None


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
        for crash in self.crashes:
            told = f"runs after {crash.started_s:.1f} s, all healthy after {crash.healthy_s:.1f} s"
            applied = (
                ""
                if crash.applied_s is None
                else f", a new event applied after {crash.applied_s:.1f} s"
            )
            yield f"{'crash of ' + crash.service:<32} {told}{applied}"
        for kind in ("lost", "double"):
            yield f"{kind:<32} {len(self.findings.wrong.get(kind, ())):,}"


def run(project: Project, folder: Path, simulation: Simulation) -> Result:
    """Build and start the project, take it through the scenario, and compare what its stores hold
    with what was accepted.
    """
    result = Result()
    files = simulate(folder / "shop", simulation)

    at = time.monotonic()
    project.build()
    result.times["images built in"] = time.monotonic() - at
    at = time.monotonic()
    project.up()
    result.times["from nothing to all healthy"] = time.monotonic() - at
    result.figures["containers"] = len(project.containers())

    _send(project, result, files)
    _train(project, result)
    client, probes = _crash_each(project, result)
    _answers(project)

    wait_for(
        lambda: project.get("features", "/v1/status")["caught_up"],
        "features to catch up",
        PATIENCE_S,
    )
    acknowledged = [*client.acknowledged, *probes]
    sent = Accepted(files.interactions, acknowledged, client.unacknowledged)
    compare_counts(
        result.findings, lambda view, name: dict(_features(project, view, name)["counts"]), sent
    )
    project.stop("features")  # so that its lake keeps still
    compare_lake(result.findings, project.lake(folder), sent)
    for rejected in client.rejected:
        result.findings.say("rejected", rejected)
    result.figures["events accepted while crashing"] = result.findings.figures.pop("events_due")
    result.figures["events accepted in all"] = sum(
        result.figures[f"events accepted {when}"] for when in ("before", "while crashing")
    )
    result.figures |= {
        name.replace("_", " "): count for name, count in result.findings.figures.items()
    }
    return result


def _send(project: Project, result: Result, files: SimulatedFiles) -> None:
    url = str(project.clients["ingestion"].base_url)
    report = replay(files.interactions, url=url, write_key=WRITE_KEY, items=files.items)
    assert (report.accepted, report.duplicates, report.rejected) == (report.events, 0, 0), report
    wait_for(
        lambda: project.get("features", "/v1/status")["caught_up"],
        "features to catch up",
        PATIENCE_S,
    )
    assert project.get("features", "/v1/status")["lake"]["interactions"] == report.accepted
    result.times["history sent in"] = report.seconds
    result.figures["events accepted before"] = report.accepted


def _train(project: Project, result: Result) -> None:
    """A run, whose model the gate promotes, and which serving answers by."""
    at = time.monotonic()
    run_id = project.post("training", "/v1/runs", {"reason": "the first model"})["run_id"]

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = project.get("training", f"/v1/runs/{run_id}")
        return None if run["state"] in ("queued", "running") else run

    run = wait_for(finished, "the training run", RUN_LIMIT_S)
    assert run["state"] == "succeeded", run
    assert project.get("training", "/v1/aliases/champion")["version"] == run["model_version"], run[
        "decision_reason"
    ]
    _answers(project)
    result.times["trained, promoted and answering"] = time.monotonic() - at


def _answers(project: Project) -> None:
    """Wait until serving answers by the champion."""
    version = project.get("training", "/v1/aliases/champion")["version"]

    def answered() -> bool:
        answer = project.get("serving", "/v1/recommendations/u0", n=5)
        return (answer["answered_by"], answer["model_version"]) == ("model", version) and len(
            answer["items"]
        ) == 5

    wait_for(answered, "an answer by the model", PATIENCE_S)


def _crash_each(project: Project, result: Result) -> tuple[Client, list[Sent]]:
    """Crash every container once under a little load; who sent that, with what became of it, and
    the probes that were sent.
    """
    over = threading.Event()
    client = Client([str(project.clients["ingestion"].base_url)], WRITE_KEY, seed=1, rate=RATE)
    sending = threading.Thread(
        target=client.run, args=(0, PATIENCE_S, lambda: not over.is_set(), 3_600.0), daemon=True
    )
    sending.start()
    probes: list[Sent] = []
    try:
        for service in sorted(project.containers()):
            result.crashes.append(_crash(project, service, probes))
    finally:
        over.set()
        sending.join()
    for service, container in project.containers().items():
        if container.restarts != 1:
            result.findings.say(
                "restarted otherwise than once", f"{service}: {container.restarts} times"
            )
    return client, probes


def _crash(project: Project, service: str, probes: list[Sent]) -> Crash:
    before = project.containers()[service]
    time.sleep(max(0.0, before.started + SETTLED_S - time.time()))
    project.crash(service)
    applied = _applied(project, probes) if service == "features" else None

    def all_healthy() -> bool:
        now = project.containers()
        return now[service].started > before.started and all(
            container.healthy for container in now.values()
        )

    wait_for(all_healthy, f"all containers to be healthy after the crash of {service}", PATIENCE_S)
    healthy, now = time.time(), project.containers()[service]
    return Crash(
        service, now.started - now.ended, healthy - now.ended, applied and applied - now.ended
    )


def _applied(project: Project, probes: list[Sent]) -> float:
    """Send an event of a new visitor; when features has applied it."""
    number, at = len(probes), time.time_ns() // 1_000_000
    event = Event(f"probe-{number}", f"probe-{number}", "view", "probe", at, None)
    message = {
        "type": "track",
        "messageId": event.event_id,
        "userId": event.user_id,
        "timestamp": at,
    }
    message |= {"event": "Product Viewed", "properties": {"product_id": event.item_id}}
    assert project.post("ingestion", "/v1/batch", {"batch": [message]})["accepted"] == 1
    probes.append(Sent(message, (event,)))
    wait_for(
        lambda: _features(project, "visitor", event.user_id)["counts"] == {"view": 1},
        "the event to be applied",
        PATIENCE_S,
    )
    return time.time()


def _features(project: Project, view: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = project.get("features", f"/v1/features/{view}/{name}")
    return found
