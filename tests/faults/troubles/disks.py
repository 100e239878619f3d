"""Disks that are full for a while: those of the lake, the spool, Redis's log, and SQLite.

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

from tests.e2e.stack import wait_for
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.trouble import Trouble

FULL_S: Final = 15.0
MEGABYTES: Final = 512
LAKE, SPOOLS, REDIS, SQLITE = "lake", "spools", "redis", "sqlite"
# Folders of the stack that are disks of their own.
DISKS: Final = {
    LAKE: ("lake",),
    SPOOLS: ("spool", "ingestion 2/spool"),
    REDIS: ("servers/redis",),
    SQLITE: ("sqlite",),
}


class Disks(Trouble):
    """Services write to full disks, and go on when there is room again.

    The spools are needed while the broker is away, so it is killed then, and held.
    """

    strikes = (LAKE, REDIS, SQLITE, SPOOLS, "spools, which have room")

    def lacking(self) -> str:
        return "" if os.geteuid() == 0 else "only root can mount: run it as root"

    def prepare(self, directory: Path, opened: ExitStack) -> Mapping[str, str]:
        self._directory = directory
        for folder in (folder for folders in DISKS.values() for folder in folders):
            place = directory / folder
            place.mkdir(parents=True)
            _run("mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "slipstream", str(place))
            opened.callback(_run, "umount", str(place))
        return {
            "SLIPSTREAM_DATABASE__URL": f"sqlite:///{directory / 'sqlite' / 'metadata.db'}",
            "SLIPSTREAM_INGESTION__SPOOL_DIR": str(directory / "spool"),
        }

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        disk = name.partition(",")[0]
        with ExitStack() as opened:
            if disk == SPOOLS:
                broker = bed.servers.children["broker"]
                opened.enter_context(bed.servers.holding("broker"))
                broker.kill()
                wait_for(lambda: not broker.alive, "the broker to be dead")
            if name == disk:
                for folder in DISKS[disk]:
                    opened.enter_context(full(self._directory / folder))
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
