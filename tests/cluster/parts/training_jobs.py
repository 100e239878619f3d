"""Part 8: a training run as a Job. Its pod is evicted half-way while training's own pod is killed;
another pod goes on, and the run is judged.
"""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from tests.cluster.bed import Bed
from tests.cluster.components import rendered
from tests.cluster.kubectl import NAMESPACE, Pod, wait_until
from tests.cluster.overlay import objects, tagged, wait_all_ready
from tests.cluster.parts.start import begin, finish, progress
from tests.cluster.report import Part
from tests.e2e.stack import wait_for

TITLE = "8 Training runs as Jobs: evicted and gone on with"
APP: Final = "training-run"
# The network's epochs before the pod is evicted.
EPOCHS: Final = 2
POD_LIMIT_S, EPOCH_LIMIT_S = 120.0, 300.0
# A laptop's share, and a volume that the pods of one node share.
PATCHES: Final = (
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "exchange"},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": APP},
        "spec": {
            "jobTemplate": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": APP,
                                    "resources": {
                                        "requests": {"cpu": "100m", "memory": "1Gi"},
                                        "limits": {"cpu": "2", "memory": "3Gi"},
                                    },
                                }
                            ]
                        }
                    }
                }
            }
        },
    },
)


def run(bed: Bed, part: Part) -> None:
    plain = objects(bed.kubectl, bed.tag)
    try:
        _apply(bed, plain, "training-runs")
        _evicted(bed, part)
    finally:
        bed.kubectl.delete("cronjob", APP)
        bed.kubectl.delete("role,rolebinding", "training-runs")
        bed.kubectl.apply(*(item for item in plain if _of_training(item)))
        wait_all_ready(bed.kubectl, "the end of training runs as Jobs")


def _apply(bed: Bed, plain: Sequence[dict[str, Any]], *components: str) -> None:
    """Apply what components add to the overlay, and training's Deployment, which they change.

    The settings get another name by it. The other services keep theirs, and are not replaced.
    """
    there = {_name(item) for item in plain}
    items = tagged(rendered(bed.kubectl, *components, patches=PATCHES), bed.tag)
    bed.kubectl.apply(*(i for i in items if _name(i) not in there or _of_training(i)))
    wait_all_ready(bed.kubectl, f"{', '.join(components)} were applied")


def _evicted(bed: Bed, part: Part) -> None:
    run_id = begin(bed, "a Job, evicted")
    first = wait_for(lambda: _pod(bed), "the pod of the run", POD_LIMIT_S)

    def has_learnt() -> dict[str, Any] | None:
        told = progress(bed, run_id)
        return told if (told["epoch"] or 0) >= EPOCHS else None

    told = wait_for(has_learnt, f"epoch {EPOCHS} of the network", EPOCH_LIMIT_S)
    part.tell("evicted at", f"epoch {told['epoch']} of {told['epochs']}")
    _evict(bed, first)
    (training,) = bed.kubectl.of("training")
    bed.kubectl.delete("pod", training.name, "--force", "--grace-period=0", "--wait=false")
    at = time.monotonic()
    second = wait_for(lambda: _pod(bed, other_than=first), "another pod of the run", POD_LIMIT_S)
    part.tell("another pod runs after", f"{time.monotonic() - at:.0f} s")
    wait_until(lambda: _kept(bed, second) is not None, "the pod to begin", POD_LIMIT_S)
    kept = _kept(bed, second) or []
    part.tell("it goes on from", ", ".join(kept) or "nothing")
    part.demand(bool(kept), "the second pod began from the start")
    run = finish(bed, part, run_id)
    part.tell("attempt", f"{run['attempt']}; {run['decision_reason']}")
    part.demand(run["attempt"] == 1, f"the eviction counted as an attempt: {run['attempt']}")
    part.demand(bool(run["decision"]), "the gate did not judge the run")


def _pod(bed: Bed, other_than: Pod | None = None) -> Pod | None:
    """The pod of a run that has started and goes on."""
    found = [
        pod
        for pod in bed.kubectl.pods()
        if pod.app == APP and pod.ready and not pod.stopping and not pod.ends
    ]
    return next((pod for pod in found if other_than is None or pod.uid != other_than.uid), None)


def _evict(bed: Bed, pod: Pod) -> None:
    """Have a pod evicted, as `kubectl drain` and the end of a spot node do."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}/eviction"
    bed.kubectl.run("create", "--raw", path, "-f", "-", given=json.dumps(eviction))


def _kept(bed: Bed, pod: Pod) -> list[str] | None:
    """The checkpoints that a run's pod began with; None before it has begun."""
    for line in bed.kubectl.run("--namespace", NAMESPACE, "logs", pod.name).splitlines():
        if line.startswith("{") and (said := json.loads(line)).get("event") == "run begins":
            return sorted(said["kept"])
    return None


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _of_training(item: dict[str, Any]) -> bool:
    return _name(item) == ("Deployment", "training")
