"""Disks that are full for a while: those of the lake, Redis's log, and SQLite.

Each is a small file system in memory, which needs root to mount. A file that takes all of the room
fills it.
"""

import errno
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.trouble import Trouble

FULL_S: Final = 15.0
MEGABYTES: Final = 512
# Folders of the stack that are disks of their own.
DISKS: Final = {"lake": "lake", "redis": "servers/redis", "sqlite": "sqlite"}


class Disks(Trouble):
    """Services write to full disks, and go on when there is room again."""

    strikes = tuple(DISKS)

    def lacking(self) -> str:
        return "" if os.geteuid() == 0 else "only root can mount: run it as root"

    def prepare(self, directory: Path, opened: ExitStack) -> Mapping[str, str]:
        self._directory = directory
        for folder in DISKS.values():
            place = directory / folder
            place.mkdir(parents=True)
            _run("mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "slipstream", str(place))
            opened.callback(_run, "umount", str(place))
        return {"SLIPSTREAM_DATABASE__URL": f"sqlite:///{directory / 'sqlite' / 'metadata.db'}"}

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        with full(self._directory / DISKS[name]):
            time.sleep(FULL_S)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A file takes the room that is left where `folder` is, for the block."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            block = bytes(4096)
            while True:
                try:
                    file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
        yield
    finally:
        ballast.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
