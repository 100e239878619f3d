"""The local overlay: rendered with the tags of the images under test, applied, and watched."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from slipstream.contracts.services import SERVICES
from tests.cluster.kubectl import Kubectl, Pod, wait_until

ROOT = Path(__file__).parents[2]
# Of the repository.
PLACE = Path("deploy", "kubernetes", "overlays", "local")
OVERLAY = ROOT / PLACE
SERVERS = ("kafka", "redis", "postgres")
READY_LIMIT_S = 420.0


def objects(kubectl: Kubectl, tag: str, tree: Path = ROOT) -> list[dict[str, Any]]:
    """The objects of a tree's overlay, with the services' images of a tag."""
    return tagged(list(yaml.safe_load_all(kubectl.run("kustomize", str(tree / PLACE)))), tag)


def tagged(items: list[dict[str, Any]], tag: str) -> list[dict[str, Any]]:
    """Objects with the services' images of a tag. Changes them."""
    for item in items:
        spec = item.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec.get("jobTargetRef", spec))
        for metric in spec.get("metrics", ()) if item["kind"] == "AnalysisTemplate" else ():
            spec = metric["provider"]["job"]["spec"]
        # An autoscaler or a policy has no template of pods.
        pod = spec.get("predictor", spec.get("template", {}).get("spec", {}))
        steps = (each.get("container") for each in spec.get("templates", ()))
        for container in (*pod.get("containers", ()), *filter(None, steps)):
            if container["image"].startswith("slipstream/"):
                container["image"] = image(container["image"].split(":")[0], tag)
    return items


def image(name: str, tag: str) -> str:
    return f"{name if '/' in name else f'slipstream/{name}'}:{tag}"


def images(tag: str) -> list[str]:
    """The five services' images of a tag."""
    return [image(service, tag) for service in SERVICES]


def server_images() -> list[str]:
    """Images of the overlay's own servers."""
    return [
        container["image"]
        for server in SERVERS
        for item in yaml.safe_load_all((OVERLAY / f"{server}.yaml").read_text())
        if item["kind"] == "StatefulSet"
        for container in item["spec"]["template"]["spec"]["containers"]
    ]


def all_ready(kubectl: Kubectl) -> list[Pod] | None:
    """The pods of every workload, once each has as many ready ones as it wants, of its newest
    template, and none is stopping.
    """
    pods = [pod for pod in kubectl.pods() if not pod.of_job]
    if any(pod.stopping or not pod.ready for pod in pods):
        return None
    for workload in kubectl.get("deployments,statefulsets")["items"]:
        status, wanted = workload["status"], workload["spec"]["replicas"]
        if status.get("observedGeneration") != workload["metadata"]["generation"] or any(
            status.get(count, 0) != wanted
            for count in ("replicas", "readyReplicas", "updatedReplicas")
        ):
            return None
    return pods if {pod.app for pod in pods} >= {*SERVICES, *SERVERS} else None


def wait_all_ready(kubectl: Kubectl, after: str) -> float:
    """Wait until all are ready after something; seconds that it took."""
    start = time.monotonic()
    wait_until(lambda: all_ready(kubectl), f"all pods to be ready after {after}", READY_LIMIT_S)
    return time.monotonic() - start


def workload(items: Sequence[dict[str, Any]], service: str) -> dict[str, Any]:
    """The object among these with a service's pods."""
    (found,) = (
        item
        for item in items
        if item["kind"] in ("Deployment", "StatefulSet") and item["metadata"]["name"] == service
    )
    return found
