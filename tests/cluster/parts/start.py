"""Part 1: the overlay from nothing to all ready without a restart; events, a run, a promotion, and
answers by the model.
"""

import time
from typing import Any

from slipstream.datasets.replay import replay
from tests.cluster.bed import Bed
from tests.cluster.forwarding import WRITE_KEY
from tests.cluster.kubectl import PAUSE_S, wait_until
from tests.cluster.overlay import objects, wait_all_ready
from tests.cluster.report import Part
from tests.e2e.stack import wait_for

TITLE = "1 From nothing to an answer"
RUN_LIMIT_S, ANSWER_LIMIT_S = 600.0, 60.0
# What everything in the overlay may ask for, with a surge pod of the largest service.
CPU_LIMIT_M, MEMORY_LIMIT = 1_500, 5 * 2**30


def run(bed: Bed, part: Part) -> None:
    bed.kubectl.apply(*objects(bed.kubectl, bed.tag))
    part.tell("all pods ready after", f"{wait_all_ready(bed.kubectl, 'the start'):.0f} s")
    _judge_pods(bed, part)
    _send(bed, part)
    version = train(bed, part)
    at = time.monotonic()
    wait_until(lambda: _answers(bed, version), "an answer by the model", ANSWER_LIMIT_S)
    part.tell("answered by the model after", f"{time.monotonic() - at:.1f} s more")


def _judge_pods(bed: Bed, part: Part) -> None:
    found = bed.kubectl.pods()
    jobs, pods = ([pod for pod in found if pod.of_job is of_job] for of_job in (True, False))
    part.demand(not jobs, f"not done or failed: {', '.join(pod.name for pod in jobs)}")
    for pod in pods:
        part.tell(f"{pod.name} ready after", f"{pod.ready_at - pod.created:.0f} s")
        part.demand(pod.restarts == 0, f"{pod.name} was restarted {pod.restarts} times")
    part.tell("restarts", str(sum(pod.restarts for pod in pods)))
    cpu, memory = (sum(pod.requests[name] for pod in pods) for name in ("cpu", "memory"))
    part.tell("requests in all", f"{cpu} m, {memory >> 20:,} MiB")
    surging = {
        item["metadata"]["name"]
        for item in bed.kubectl.get("deployments")["items"]
        if item["spec"]["strategy"]["rollingUpdate"]["maxSurge"] not in (0, "0%")
    }
    more_cpu, more = (
        max(pod.requests[name] for pod in pods if pod.app in surging) for name in ("cpu", "memory")
    )
    part.tell("with a surge pod", f"{cpu + more_cpu} m, {(memory + more) >> 20:,} MiB")
    part.demand(
        cpu + more_cpu <= CPU_LIMIT_M and memory + more <= MEMORY_LIMIT,
        "requests leave no room for a surge pod within 1,500 m and 5 GiB",
    )


def _send(bed: Bed, part: Part) -> None:
    report = replay(
        bed.files.interactions,
        url=bed.services.url("ingestion"),
        write_key=WRITE_KEY,
        items=bed.files.items,
    )
    part.tell("history accepted", f"{report.accepted:,} events, {report.events_per_s:,.0f}/s")
    part.demand(
        (report.accepted, report.rejected) == (report.events, 0), f"history refused: {report}"
    )
    bed.wait_caught_up()


def train(bed: Bed, part: Part, reason: str = "the first model") -> str:
    """A training run; the version of its model."""
    return str(finish(bed, part, begin(bed, reason))["model_version"])


def begin(bed: Bed, reason: str) -> str:
    """Ask for a training run, again while training opens its registry; its id."""

    def asked() -> str:
        return str(bed.services.post("training", "/v1/runs", {"reason": reason})["run_id"])

    return wait_for(asked, "training to take a run")


def finish(bed: Bed, part: Part, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run, which must be a success."""
    at = time.monotonic()

    def finished() -> dict[str, Any] | None:
        time.sleep(PAUSE_S)
        run: dict[str, Any] = bed.services.get("training", f"/v1/runs/{run_id}")
        return None if run["state"] in ("queued", "running") else run

    run = wait_for(finished, "the training run", RUN_LIMIT_S)
    part.tell("training run", f"{run['state']} after {time.monotonic() - at:.0f} s")
    part.tell("model", f"version {run['model_version']}, {run['decision']}")
    if run["state"] != "succeeded":
        raise AssertionError(f"the run ended otherwise: {run}")
    return run


def _answers(bed: Bed, version: str) -> bool:
    answer = bed.services.get("serving", "/v1/recommendations/u0", n=5)
    return (answer["answered_by"], answer["model_version"]) == ("model", version) and len(
        answer["items"]
    ) == 5
