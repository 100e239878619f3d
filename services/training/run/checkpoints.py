"""What a run has done so far and would lose to a kill: a directory that outlives the process, for
as long as the work goes on.
"""

import shutil
from collections.abc import Collection
from pathlib import Path


class Checkpoints:
    """Directories by work, which is the id of the first run that attempts it. Nothing is made
    before it is asked for.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, work: str) -> Path:
        """The work's directory, made where there is none; what an earlier attempt left is in it."""
        directory = self._root / work
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def drop(self, work: str) -> None:
        """The work is over."""
        shutil.rmtree(self._root / work, ignore_errors=True)

    def keep_only(self, works: Collection[str]) -> None:
        """Drop all others: what a killed service could not drop any more."""
        for directory in self._root.glob("*"):
            if directory.name not in works:
                self.drop(directory.name)
