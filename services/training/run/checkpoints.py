"""Checkpoints of runs: directories that outlive a killed process, until the work is over."""

import shutil
from collections.abc import Collection
from pathlib import Path


class Checkpoints:
    """Directories by work, which is named by the first run that attempts it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, work: str) -> Path:
        """The work's directory, made where there is none, with the files of an earlier attempt."""
        directory = self._root / work
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def drop(self, work: str) -> None:
        """Delete the directory of work that is over."""
        shutil.rmtree(self._root / work, ignore_errors=True)

    def keep_only(self, works: Collection[str]) -> None:
        """Drop all others, which a killed service could not drop."""
        for directory in self._root.glob("*"):
            if directory.name not in works:
                self.drop(directory.name)
