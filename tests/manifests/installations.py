"""Overlays and combinations of components, as kubectl builds them."""

import os
import shutil
import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.manifests import KUBERNETES, render

COMPONENTS: Final = KUBERNETES / "components"
OVERLAYS: Final = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
# In the order in which a kustomization lists them: network-policies first, autoscalers last.
ORDER: Final = (
    "network-policies",
    "external-secrets",
    "strimzi",
    "redis-replicas",
    "redis-cluster",
    "cloudnative-pg",
    "training-jobs",
    "s3-lake",
    "training-jobs-s3",
    "training-jobs-keda",
    "training-standby",
    "gpu-training",
    "gpu-training-jobs",
    "hpa",
    "keda",
    "keda-strimzi",
    "monitoring-operator",
    "ingress",
    "gateway",
)
# Either of them.
ALTERNATIVES: Final = (("redis-replicas", "redis-cluster"), ("ingress", "gateway"))
# Those that need others.
NEEDS: Final = {
    "training-jobs-s3": ("training-jobs",),
    "training-jobs-keda": ("training-jobs",),
    "gpu-training-jobs": ("training-jobs",),
    "keda-strimzi": ("keda", "strimzi"),
}

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="needs kubectl to build the manifests: kubernetes.io/docs/tasks/tools",
)


def sensible() -> list[tuple[str, ...]]:
    """Each component with what it needs, each pair of these, and all at once but for alternatives.

    Components change the base, or what one other component made. So pairs show every meeting.
    """
    pairs = [_with_needs(pair) for pair in combinations(ORDER, 2) if pair not in ALTERNATIVES]
    return sorted({*each_and_all(), *pairs}, key=lambda names: (len(names), names))


def each_and_all() -> list[tuple[str, ...]]:
    """The combinations of `sensible` without its pairs, for tests that have seconds."""
    every = [
        tuple(n for n in ORDER if n not in left_out) for left_out in zip(*ALTERNATIVES, strict=True)
    ]
    return [(), *(_with_needs((name,)) for name in ORDER), *every]


def _with_needs(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = {*names, *(need for name in names for need in NEEDS.get(name, ()))}
    return tuple(name for name in ORDER if name in wanted)


@cache
def overlay(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay."""
    return tuple(render(KUBERNETES / "overlays" / name))


@cache
def combination(*names: str, base: str = "base") -> tuple[dict[str, Any], ...]:
    """The objects of the base, or of an overlay such as `overlays/local`, with components."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        resources = os.path.relpath(KUBERNETES / base, place)
        listed = [os.path.relpath(COMPONENTS / name, place) for name in names]
        (place / "kustomization.yaml").write_text(
            f"resources: [{resources}]\ncomponents: [{', '.join(listed)}]\n"
        )
        return tuple(render(place))


def of_kind(objects: tuple[dict[str, Any], ...], *kinds: str) -> dict[str, dict[str, Any]]:
    """The objects of these kinds, by name."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] in kinds}


def pod_templates(objects: tuple[dict[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """The templates of pods, by `Kind/name`."""
    return {
        f"{o['kind']}/{o['metadata']['name']}": o["spec"]["template"]
        for o in objects
        if o["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    }
