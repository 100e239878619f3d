"""Two versions side by side, as in the middle of an upgrade: partitions and requests go to and fro
between them.
"""

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.e2e.stack import Stack
from tests.faults.replicas import Launch
from tests.faults.troubles.frozen import Frozen

ROOT: Final = Path(__file__).parents[3]
# The processes of the other version.
OTHERS: Final = ("features 2", "ingestion 2", "serving 2")


class Versions(Frozen):
    """Some replicas run another commit. Each of features freezes in turn, longer than its session
    lasts, so that the other version goes on with its partitions.
    """

    strikes = ("features 2", "features", "features 3", "ingestion", "ingestion 2", "features 2")

    def __init__(self, beside: str = "") -> None:
        super().__init__(beside or version_before())

    def lacking(self) -> str:
        if self.beside:
            return ""
        return (
            "git finds no version before this one here: fetch the whole history "
            "(git fetch --unshallow), or name a commit with --beside"
        )

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        tree = stack.directory / "other-version"
        _git("worktree", "add", "--quiet", "--detach", str(tree), self.beside)
        opened.callback(_git, "worktree", "remove", "--force", str(tree))
        # Python takes the packages of the folder that it starts in.
        return {name: Launch(prefix=("env", "-C", str(tree))) for name in OTHERS}


def version_before(root: Path = ROOT) -> str:
    """The commit of the last release, else the one before the newest change of the code.

    Empty where the history does not reach so far, or where there is none.
    """
    if release := _found(root, "describe", "--tags", "--abbrev=0", "HEAD^"):
        return _found(root, "rev-list", "-1", release)
    changed = _found(root, "log", "-1", "--format=%H", "--", "services", "slipstream")
    return changed and _found(root, "rev-parse", "--verify", "--quiet", f"{changed}^")


def _found(root: Path, *arguments: str) -> str:
    """What git answers; empty where it finds nothing."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)
