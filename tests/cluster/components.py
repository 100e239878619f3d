"""Kustomize components on the local overlay, as an operator would list them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kubectl import Kubectl
from tests.cluster.overlay import OVERLAY

COMPONENTS = OVERLAY.parents[1] / "components"


def rendered(
    kubectl: Kubectl, *names: str, patches: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The objects of the local overlay with these components, and with patches of their objects."""
    with tempfile.TemporaryDirectory(prefix="slipstream-overlay-") as folder:
        here = Path(folder).resolve()
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "slipstream",
            "resources": [os.path.relpath(OVERLAY, here)],
            "components": [os.path.relpath(COMPONENTS / name, here) for name in names],
            "patches": [{"patch": yaml.safe_dump(patch)} for patch in patches],
        }
        (here / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return list(yaml.safe_load_all(kubectl.run("kustomize", str(here))))


def has_keda(kubectl: Kubectl) -> bool:
    """Whether the cluster has KEDA."""
    return "scaledobjects.keda.sh" in kubectl.run("get", "crd", "-o", "name")
