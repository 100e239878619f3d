"""Part 4: serving grows under load and shrinks after it, by the component `hpa`; features goes to
zero while nothing comes, to three by lag, and back, by the component `keda`.

The components' own numbers are those of a production, with minutes of patience. Here they are made
small, so that each change comes within a minute; what they measure and what they move stays.
"""

import time
from contextlib import ExitStack
from typing import Any

from tests.cluster.bed import Bed
from tests.cluster.components import has_keda, rendered
from tests.cluster.kubectl import NAMESPACE, wait_until
from tests.cluster.load import pods
from tests.cluster.overlay import wait_all_ready
from tests.cluster.parts.updates import judge
from tests.cluster.report import Part

TITLE = "4 Replicas by load, and features from zero by lag"
LIMIT_S = 240.0
SHRINK_S = 30
SHRINKING = {
    "stabilizationWindowSeconds": SHRINK_S,
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
}
MOST_SERVING, MOST_FEATURES = 2, 3
LAG = "200"
# Per cent of the processor that a pod of serving asks for.
UTILIZATION = 60


def run(bed: Bed, part: Part) -> None:
    _serving(bed, part)
    if has_keda(bed.kubectl):
        _features(bed, part)
    else:
        part.tell("features by lag", "left out: this cluster has no KEDA")
    wait_all_ready(bed.kubectl, "the scaling")
    bed.compare(part)


def _serving(bed: Bed, part: Part) -> None:
    autoscaler = _component(bed, "hpa", "HorizontalPodAutoscaler", "serving")
    autoscaler["spec"] |= {"minReplicas": 1, "maxReplicas": MOST_SERVING}
    autoscaler["spec"]["behavior"]["scaleDown"] = SHRINKING
    for metric in autoscaler["spec"]["metrics"]:
        metric["containerResource"]["target"]["averageUtilization"] = UTILIZATION
    with ExitStack() as after:
        after.callback(replicas, bed, "deployment/serving", 1)
        after.callback(bed.kubectl.delete, "horizontalpodautoscaler", "serving")
        bed.kubectl.apply(autoscaler)
        with pods.questions(bed.kubectl, bed.tag, "s", rate=0, threads=8) as questions:
            part.tell(f"serving at {MOST_SERVING} after", _after(bed, "serving", MOST_SERVING))
            judge(part, questions.result())
        part.tell("serving at 1 after the load", _after(bed, "serving", 1))


def _features(bed: Bed, part: Part) -> None:
    scaled = _component(bed, "keda", "ScaledObject", "features")
    scaled["spec"] |= {
        "minReplicaCount": 0,
        "maxReplicaCount": MOST_FEATURES,
        "pollingInterval": 5,
        "cooldownPeriod": SHRINK_S,
    }
    scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = {
        "scaleDown": SHRINKING
    }
    for trigger in scaled["spec"]["triggers"]:
        trigger["metadata"]["lagThreshold"] = LAG
    with ExitStack() as after:
        bed.kubectl.apply(scaled)
        # Whatever comes, features is there again for the parts behind this one.
        after.callback(replicas, bed, "statefulset/features", 1)
        after.callback(bed.kubectl.delete, "scaledobject", "features")
        part.tell("features at 0 without events after", _after(bed, "features", 0))
        with pods.events(bed.kubectl, bed.tag, "s", bed.rate, seed=4) as load:
            part.tell("features at 1 with events after", _after(bed, "features", 1, at_least=True))
            part.tell(f"features at {MOST_FEATURES} by lag after", _after(bed, "features", 3))
            sent = load.result()
        bed.take(part, sent)
        part.tell("features at 0 after the load", _after(bed, "features", 0))


def _component(bed: Bed, component: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        item
        for item in rendered(bed.kubectl, component)
        if (item["kind"], item["metadata"]["name"]) == (kind, name)
    ]
    return found


def _after(bed: Bed, app: str, count: int, *, at_least: bool = False) -> str:
    """Wait until so many pods of a service are ready, and none is stopping; how long it took."""
    start = time.monotonic()

    def there() -> bool:
        found = [pod for pod in bed.kubectl.pods() if pod.app == app]
        ready = sum(pod.ready and not pod.stopping for pod in found)
        return ready >= count if at_least else len(found) == ready == count

    wait_until(there, f"{app} to have {count} replicas", LIMIT_S)
    return f"{time.monotonic() - start:.0f} s"


def replicas(bed: Bed, workload: str, count: int) -> None:
    """Scale a workload, and wait for it."""
    bed.kubectl.run("--namespace", NAMESPACE, "scale", workload, f"--replicas={count}")
    wait_all_ready(bed.kubectl, f"scaling {workload} to {count}")
