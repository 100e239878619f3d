"""Kills services of a stack with SIGKILL at random moments, as a machine that runs out of memory would."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence


class Killer(threading.Thread):
    """Kills each of `names` `times` times within `seconds`, at moments that follow from the seed.

    `pids` tells the process of each name that runs now. A name that does not run at its moment is killed as soon as it does:
    such a kill comes while it starts. `kills` counts by name.
    """

    def __init__(
        self, pids: Callable[[], Mapping[str, int]], names: Sequence[str], times: int, seconds: float, seed: int
    ) -> None:
        super().__init__(name="killer", daemon=True)
        chance = random.Random(seed)
        self._pids = pids
        self._moments = sorted((chance.uniform(0.02, 1.0) * seconds, name) for name in names for _ in range(times))
        self._ended = threading.Event()
        self.kills: Counter[str] = Counter()
        #: the longest that a name had no process; how long it takes to be ready is its own affair
        self.slowest_restart_s = 0.0

    @property
    def busy(self) -> bool:
        return self.is_alive() and not self._ended.is_set()

    def run(self) -> None:
        start = time.monotonic()
        killed: dict[str, int] = {}
        down: dict[str, float] = {}
        while (self._moments or down) and not self._ended.is_set():
            now = time.monotonic()
            due = [(moment, name) for moment, name in self._moments if moment <= now - start]
            running = self._pids() if due or down else {}
            for name in [name for name in down if name in running and running[name] != killed[name]]:
                self.slowest_restart_s = max(self.slowest_restart_s, now - down.pop(name))
            for entry in due:
                _, name = entry
                if name in running and running[name] != killed.get(name):
                    os.kill(running[name], signal.SIGKILL)
                    killed[name], down[name] = running[name], now
                    self.kills[name] += 1
                    self._moments.remove(entry)
            time.sleep(0.02)

    def end(self) -> None:
        """Kill nothing more."""
        self._ended.set()
        self.join()
