"""Overlays and named installations, as kubectl builds them."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.manifests import KUBERNETES

COMPONENTS: Final = KUBERNETES / "components"
OVERLAYS: Final = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
_HEAD: Final = "| installation | components |"


def _listed() -> dict[str, tuple[str, ...]]:
    """The installations that the README lists: components by name."""
    _, _, table = (KUBERNETES / "README.md").read_text().partition(_HEAD)
    rows = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {name: tuple(filter(None, listed.split(", "))) for name, listed in cells}


INSTALLATIONS: Final = _listed()


@cache
def overlay(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay."""
    return _render(KUBERNETES / "overlays" / name)


@cache
def combination(*names: str, base: str = "base") -> tuple[dict[str, Any], ...]:
    """The objects of the base, or of an overlay such as `overlays/local`, with components."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        resources = os.path.relpath(KUBERNETES / base, place)
        listed = [os.path.relpath(COMPONENTS / name, place) for name in names]
        # An image of an overlay's own, which must reach the template of Jobs, too.
        (place / "kustomization.yaml").write_text(
            f"resources: [{resources}]\ncomponents: [{', '.join(listed)}]\n"
            "images: [{name: slipstream/training, newName: registry/training, newTag: '7'}]\n"
        )
        return _render(place)


def built(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay or of an installation."""
    return overlay(name) if name in OVERLAYS else combination(*INSTALLATIONS[name])


def _render(folder: Path) -> tuple[dict[str, Any], ...]:
    text = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    # In C: Python's own loader takes a second for an overlay.
    return tuple(yaml.load_all(text, Loader=yaml.CSafeLoader))


def of_kind(objects: tuple[dict[str, Any], ...], *kinds: str) -> dict[str, dict[str, Any]]:
    """The objects of these kinds, by name."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] in kinds}


def pod_templates(objects: tuple[dict[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """The templates of pods, by `Kind/name`."""
    found = {}
    for o in objects:
        name = f"{o['kind']}/{o['metadata']['name']}"
        if o["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
            found[name] = o["spec"]["template"]
        elif o["kind"] == "InferenceService":
            predictor = o["spec"]["predictor"]
            found[name] = {"metadata": {"labels": predictor["labels"]}, "spec": predictor}
    return found
