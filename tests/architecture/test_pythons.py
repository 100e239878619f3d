"""The Pythons that `make` takes: those of the project's metadata. It refuses others at once."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

from tests.requirement_lists import ROOT


def test_make_takes_the_pythons_of_the_projects_metadata() -> None:
    listed = re.search(r"^PYTHONS := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert listed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = SpecifierSet(project["requires-python"])
    assert listed[1].split() == list(versions.filter(f"3.{minor}" for minor in range(100)))


def test_make_refuses_a_python_that_packages_have_no_wheels_for(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 15, 0);'
        ' exec(sys.argv.pop(2))" "$@"\n'
    )
    python.chmod(0o755)
    venv = tmp_path / "venv"
    refused = subprocess.run(
        ["make", f"{venv}/bin/python", f"VENV={venv}", f"PYTHON={python}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("Python 3.11 to 3.14 is needed: packages have no wheels for")
    assert not venv.exists()
