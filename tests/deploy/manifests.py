"""The Kubernetes manifests, read as they are written."""

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.declared import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
LOCAL = KUBERNETES / "overlays" / "local"
# Services with pods that keep their names.
NAMED = {"features"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifest(service: str, kind: str) -> dict[str, Any]:
    (found,) = [d for d in documents(KUBERNETES / "base" / f"{service}.yaml") if d["kind"] == kind]
    return found


def workload(service: str) -> dict[str, Any]:
    return manifest(service, "StatefulSet" if service in NAMED else "Deployment")


def container(service: str) -> dict[str, Any]:
    (found,) = workload(service)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def kustomization(folder: Path) -> dict[str, Any]:
    (found,) = documents(folder / "kustomization.yaml")
    return found
