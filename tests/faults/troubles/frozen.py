"""Processes that stand still for longer than their session with the broker lasts, and go on."""

import os
import signal
import time

from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.trouble import Trouble
from tests.servers import RedisKind

# Two sessions and a half, of 6 s: the group has given the partitions to others, and has settled.
FROZEN_S = 15.0


class Frozen(Trouble):
    """SIGSTOP, as when a virtual machine is moved: who goes on has missed the time between."""

    redis = tuple(RedisKind)
    strikes: tuple[str, ...] = (
        "features 2",
        "ingestion",
        "features",
        "monitoring",
        "ingestion 2",
        "features 3",
        "serving 2",
        "training",
        "serving",
    )

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        pid = bed.processes[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(FROZEN_S)
        finally:
            os.kill(pid, signal.SIGCONT)
