"""Part 11: releases of serving by the component `rollouts`, under load. A good one goes out without
a failed request; one with errors and one that is slow are returned.

A bad release is the same image with a file that Python loads at its start, from a ConfigMap.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any

from tests.cluster.bed import Bed
from tests.cluster.kubectl import NAMESPACE, Pod, wait_until
from tests.cluster.load import pods
from tests.cluster.load.pods import Answer
from tests.cluster.overlay import objects, workload
from tests.cluster.parts.updates import judge
from tests.cluster.parts.zero import apply_component, restore
from tests.cluster.report import Part

TITLE = "11 Releases of serving: a good one, and bad ones that are returned"
REPLICAS, QUESTIONS_PER_S = 2, 60.0
# Of a good release: requests at least, and from its change to the last of the old pods' end. Of a
# bad one: from its first pod's readiness to the end of its pods.
LEAST, GOOD_S, RETURNED_S = 5_000, 240.0, 90.0
LIMIT_S = 420.0
SHARE_OF_ERRORS = 0.1
NEW = (
    *("rollout/serving", "analysistemplate/serving-releases", "configmap/spoiled"),
    *("service/serving-stable", "service/serving-canary"),
)
# Wraps what answers hot routes, in the pod's own process: so its own metrics tell.
SPOILED = f"""
import asyncio, os, random
from slipstream.chassis.hot_routes import HotRoutes
answer = HotRoutes.answer
async def spoiled(self, call):
    if os.environ["SPOILED"] == "slow":
        await asyncio.sleep(0.1)
    elif random.random() < {SHARE_OF_ERRORS}:
        raise RuntimeError("spoiled")
    return await answer(self, call)
HotRoutes.answer = spoiled
"""


def run(bed: Bed, part: Part) -> None:
    if "rollouts.argoproj.io" not in bed.kubectl.run("get", "crd", "-o", "name"):
        part.skipped = "this cluster has no Argo Rollouts"
        return
    plain = objects(bed.kubectl, bed.tag)
    try:
        deployment = workload(apply_component(bed, plain, "rollouts"), "serving")
        scale = ("--namespace", NAMESPACE, "scale", "rollout/serving")
        bed.kubectl.run(*scale, f"--replicas={REPLICAS}")
        wait_until(lambda: _phase(bed) == "Healthy", "the Rollout", LIMIT_S)
        wait_until(lambda: len(bed.kubectl.of("serving")) == REPLICAS, "its pods alone", LIMIT_S)
        _good(bed, part, deployment)
        for kind in ("errors", "slow"):
            _bad(bed, part, deployment, kind)
    finally:
        bed.kubectl.delete(*NEW)
        restore(bed, plain)


def _good(bed: Bed, part: Part, deployment: dict[str, Any]) -> None:
    release = _changed(deployment, "good")
    with _load(bed, "good") as load:
        before = {pod.uid for pod in bed.kubectl.of("serving")}
        at = time.monotonic()
        bed.kubectl.apply(release)
        wait_until(
            lambda: _phase(bed) == "Healthy" and not before & {pod.uid for pod in _of_serving(bed)},
            "the good release",
            LIMIT_S,
        )
        took = time.monotonic() - at
        left = LEAST / QUESTIONS_PER_S + 5 - took
        time.sleep(max(0.0, left))
        answers = _answers(load)
    part.tell("a good release, out after", f"{took:.0f} s")
    judge(part, answers)
    part.demand(len(answers) >= LEAST, f"only {len(answers)} requests")
    part.demand(took <= GOOD_S, f"the good release took {took:.0f} s")


def _bad(bed: Bed, part: Part, deployment: dict[str, Any], kind: str) -> None:
    spoiled = {"metadata": {"name": "spoiled", "namespace": NAMESPACE}}
    bed.kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", **spoiled, "data": {"sitecustomize.py": SPOILED}}
    )
    with _load(bed, kind) as load:
        before = {pod.uid for pod in bed.kubectl.of("serving")}

        def canaries() -> list[Pod]:
            return [pod for pod in _of_serving(bed) if pod.uid not in before]

        bed.kubectl.apply(_changed(deployment, kind))
        wait_until(lambda: any(pod.ready for pod in canaries()), "the canary's pod", LIMIT_S)
        at = time.time()
        wait_until(
            lambda: all(pod.stopping for pod in canaries()) and _phase(bed) == "Degraded",
            "the bad release to be returned",
            LIMIT_S,
        )
        took = time.time() - at
        answers = _answers(load)
    failed = [answer for answer in answers if answer.status != 200]
    # A pod answers for some seconds after its end was ordered.
    span = [answer.at_ms for answer in failed] or [0]
    met = [answer for answer in answers if min(span) <= answer.at_ms <= max(span)]
    share = len(met) / (REPLICAS + 1)
    part.tell(f"a release with {kind}, returned after", f"{took:.0f} s")
    part.tell("  said the analysis", _last_words(bed))
    told = f"; its pods' share was {share:,.0f}" if failed else ""
    part.tell("  failed", f"{len(failed)} of {len(answers):,}{told}")
    part.demand(took <= RETURNED_S, f"the release with {kind} stayed for {took:.0f} s")
    # Which requests fail is chance: three standard deviations of it are let pass.
    allowed = SHARE_OF_ERRORS * share + 3 * (SHARE_OF_ERRORS * share) ** 0.5
    most = allowed if kind == "errors" else 0
    part.demand(len(failed) <= most, f"{len(failed)} requests failed with {kind}: at most {most}")
    bed.kubectl.apply(_changed(deployment, "good"))
    wait_until(lambda: _phase(bed) == "Healthy", "the good release again", LIMIT_S)


def _load(bed: Bed, name: str) -> Any:
    """Requests with a connection each: a kept one would stay with the pods of before."""
    return pods.questions(
        bed.kubectl, bed.tag, f"r{name}", rate=QUESTIONS_PER_S, visitors=200, reconnect=True
    )


def _answers(load: pods.QuestionsPod) -> list[Answer]:
    """The load's answers after its first second: for an instant, the network's firewall does not
    know a new pod of clients, and refuses its connections.
    """
    answers = load.result()
    begun = min(answer.at_ms for answer in answers)
    return [answer for answer in answers if answer.at_ms >= begun + 1_000]


def _changed(deployment: dict[str, Any], kind: str) -> dict[str, Any]:
    """The Deployment with another template: `good`, or spoiled with `errors` or `slow`."""
    changed = copy.deepcopy(deployment)
    pod = changed["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["env"].append({"name": "SPOILED", "value": kind})
    if kind != "good":
        container["env"].append({"name": "PYTHONPATH", "value": "/spoiled"})
        container["volumeMounts"].append({"name": "spoiled", "mountPath": "/spoiled"})
        pod["volumes"].append({"name": "spoiled", "configMap": {"name": "spoiled"}})
    return changed


def _phase(bed: Bed) -> str:
    """The Rollout's phase, once it has seen the Deployment as it is."""
    found = bed.kubectl.get("rollout/serving")
    seen = found["status"].get("workloadObservedGeneration")
    now = bed.kubectl.get("deployment/serving")["metadata"]["generation"]
    return str(found["status"].get("phase")) if seen == str(now) else "unseen"


def _of_serving(bed: Bed) -> Sequence[Pod]:
    return [pod for pod in bed.kubectl.pods() if pod.app == "serving"]


def _last_words(bed: Bed) -> str:
    """The last line of the newest analysis' pod that failed."""
    items = bed.kubectl.get("pods", "--selector=app.kubernetes.io/name=serving-releases")["items"]
    failed = [item for item in items if item["status"].get("phase") == "Failed"]
    failed.sort(key=lambda item: str(item["metadata"]["creationTimestamp"]))
    if not failed:
        return "nothing"
    name = failed[-1]["metadata"]["name"]
    return bed.kubectl.run("--namespace", NAMESPACE, "logs", name).strip().splitlines()[-1]
