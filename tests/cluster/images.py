"""The images of this version and of the one before it, as the docker-compose.yml of each says."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipstream.contracts.services import SERVICES
from tests.cluster.kubectl import ClusterError
from tests.faults.troubles.versions import version_before

ROOT = Path(__file__).parents[2]
BUILD_LIMIT_S = 1_800.0


def build(tag: str) -> None:
    """Build the five images of the working tree."""
    _build(ROOT, tag)


def build_before(tag: str) -> str:
    """Build the five images of the version before this one; its commit."""
    with tree_before() as (commit, tree):
        _build(tree, tag)
    return commit


@contextmanager
def tree_before() -> Iterator[tuple[str, Path]]:
    """The commit of the version before this one, and a folder with its files."""
    commit = version_before()
    if not commit:
        raise ClusterError(
            "git finds no version before this one here: fetch the whole history "
            "(git fetch --unshallow), or leave out the part `updates`"
        )
    with tempfile.TemporaryDirectory(prefix="slipstream-before-") as folder:
        archive = Path(folder) / "tree.tar"
        tree = Path(folder) / "tree"
        tree.mkdir()
        _call("git", "-C", str(ROOT), "archive", "--output", str(archive), commit)
        _call("tar", "-xf", str(archive), "-C", str(tree))
        yield commit, tree


def _build(tree: Path, tag: str) -> None:
    _call(
        *("docker", "compose", "--file", str(tree / "docker-compose.yml"), "build", *SERVICES),
        environment={"SLIPSTREAM_TAG": tag},
    )


def _call(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {done.stderr[-2_000:]}")
