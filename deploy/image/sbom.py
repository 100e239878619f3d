"""Write the software bill of materials of an image, as CycloneDX 1.6, to standard output.

It runs in the image, and needs nothing but the standard library there:

    docker run --rm -i --entrypoint python slipstream/serving - serving <deploy/image/sbom.py
"""

import importlib.metadata as metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

DPKG: Final = Path("/var/lib/dpkg/status")


def python_packages() -> list[dict[str, Any]]:
    """The components of the Python environment, with the licences that they state."""
    found = []
    for package in metadata.distributions():
        name, version = package.metadata["Name"], package.version
        said = package.metadata
        licence = next((said[key] for key in ("License-Expression", "License") if key in said), "")
        component = _component(
            name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"
        )
        # Some packages have the whole text there.
        if licence and len(licence) < 100:
            component["licenses"] = [{"license": {"name": licence}}]
        found.append(component)
    return found


def debian_packages(status: str) -> list[dict[str, Any]]:
    """The components of Debian, from the text of dpkg's status file."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and line[0] != " "
        )
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}"
            found.append(_component(name, version, purl))
    return found


def _component(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def bill(service: str) -> dict[str, Any]:
    """The whole bill; its components are in the order of their names."""
    python = _component(
        "python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}"
    )
    debian = debian_packages(DPKG.read_text()) if DPKG.exists() else []
    components = {each["purl"]: each for each in (python, *python_packages(), *debian)}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"slipstream/{service}"}},
        "components": [components[purl] for purl in sorted(components)],
    }


if __name__ == "__main__":
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1)
    print()
