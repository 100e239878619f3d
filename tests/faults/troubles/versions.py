"""Two versions side by side, as in the middle of an upgrade: partitions and requests go to and fro
between them.
"""

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

    def lacking(self) -> str:
        return "" if self.beside else "name the commit of the other version with --beside"

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        tree = stack.directory / "other-version"
        _git("worktree", "add", "--quiet", "--detach", str(tree), self.beside)
        opened.callback(_git, "worktree", "remove", "--force", str(tree))
        # Python takes the packages of the folder that it starts in.
        return {name: Launch(prefix=("env", "-C", str(tree))) for name in OTHERS}


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)
