"""Overlays and named installations, as kubectl builds them."""

import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.manifests import KUBERNETES

COMPONENTS: Final = KUBERNETES / "components"
OVERLAYS: Final = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
_HEAD: Final = "| installation | components | patches |"
_PAGES: Final = re.compile(r"\]\((.+?)\)")
_BLOCKS: Final = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _listed() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The installations that the README lists: components by name, and links to patches."""
    _, _, table = (KUBERNETES / "README.md").read_text().partition(_HEAD)
    rows = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {
        name: (tuple(filter(None, listed.split(", "))), tuple(_PAGES.findall(patches)))
        for name, listed, patches in cells
    }


_LISTED: Final = _listed()
INSTALLATIONS: Final = {name: components for name, (components, _) in _LISTED.items()}


@cache
def overlay(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay."""
    return _render(KUBERNETES / "overlays" / name)


@cache
def combination(
    *names: str, base: str = "base", patches: tuple[str, ...] = ()
) -> tuple[dict[str, Any], ...]:
    """The objects of the base, or of an overlay such as `overlays/local`, with components.

    `patches` are links to the sections of pages that show them.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        content: dict[str, list[Any]] = {
            "resources": [os.path.relpath(KUBERNETES / base, place)],
            "components": [os.path.relpath(COMPONENTS / name, place) for name in names],
            # An image of an overlay's own, which must reach the template of Jobs, too.
            "images": [
                {"name": "slipstream/training", "newName": "registry/training", "newTag": "7"}
            ],
        }
        for block in (block for link in patches for block in _shown(link)):
            if block.startswith("# "):
                (place / block.partition("\n")[0].removeprefix("# ")).write_text(block)
            else:
                for field, entries in yaml.safe_load(block).items():
                    content[field] = content.get(field, []) + entries
        (place / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return _render(place)


def _shown(link: str) -> list[str]:
    """The blocks of YAML in a page's section: parts of a kustomization, and files with names."""
    page, _, anchor = link.partition("#")
    sections = (KUBERNETES / page).read_text().split("\n## ")
    (body,) = (
        body
        for title, _, body in (section.partition("\n") for section in sections)
        if title.lower().replace(" ", "-") == anchor
    )
    return _BLOCKS.findall(body)


def built(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay or of an installation."""
    if name in OVERLAYS:
        return overlay(name)
    components, patches = _LISTED[name]
    return combination(*components, patches=patches)


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
