"""Kills processes of a stack with SIGKILL at random moments, as a machine that runs out of memory
would.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from tests.faults.fault_thread import FaultThread


class _Due(NamedTuple):
    moment: float
    name: str
    pause_s: float


@dataclass(frozen=True)
class _Dead:
    pid: int
    since: float
    pause_s: float


class Killer(FaultThread):
    """Kills each process as often as `times` says, at moments that follow from the seed.

    A name that does not run at its moment is killed as soon as it does: such a kill comes while it
    starts. `kills` counts by the name of the process, and `slowest_restart_s` is the longest that a
    name had no process that ran: how long it takes to be ready is its own affair.

    Others start again what was killed. For a pause, the new process is held by SIGSTOP as soon as
    it is born, before it has opened anything. (Redis is there within milliseconds, and may be
    caught with its port open.)

    Args:
        pids: Tells the process of each name that runs now.
        times: How often each is killed, by name.
        seconds: The time within which all of it happens.
        seed: Of the moments, and of the pauses.
        pauses: Seconds until a killed one may start again; each kill draws one of them.
        victim: Tells the process that is killed for a name now; None: none yet.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int]],
        times: Mapping[str, int],
        seconds: float,
        seed: int,
        *,
        pauses: Sequence[float] = (0.0,),
        victim: Callable[[str], str | None] = lambda name: name,
    ) -> None:
        super().__init__("killer")
        chance, pause = random.Random(seed), random.Random(seed)
        moments = sorted(
            (chance.uniform(0.02, 1.0) * seconds, name)
            for name, count in times.items()
            for _ in range(count)
        )
        self._left = [_Due(moment, name, pause.choice(pauses)) for moment, name in moments]
        self._pids, self._victim = pids, victim
        self._dead: dict[str, _Dead] = {}

    @property
    def left(self) -> Counter[str]:
        return Counter(due.name for due in self._left)

    def _bring_about(self) -> None:
        try:
            self._kill_all()
        finally:  # no process is held back any more
            self._hold_or_free(self._pids(), float("inf"))

    def _kill_all(self) -> None:
        start = time.monotonic()
        while (self._left or self._dead) and not self._ended.is_set():
            now = time.monotonic()
            due = [one for one in self._left if one.moment <= now - start]
            running = self._pids() if due or self._dead else {}
            self._hold_or_free(running, now)
            for one in due:
                name = self._victim(one.name)
                if name is not None and name in running and name not in self._dead:
                    self._kill(name, running[name], one.pause_s)
                    self._left.remove(one)
            time.sleep(0.02)

    def _kill(self, name: str, pid: int, pause_s: float) -> None:
        _signal(pid, signal.SIGKILL)
        self._dead[name] = _Dead(pid, time.monotonic(), pause_s)
        self.kills[name] += 1

    def _hold_or_free(self, running: Mapping[str, int], now: float) -> None:
        for name, dead in list(self._dead.items()):
            if name not in running or running[name] == dead.pid:
                continue
            if now < dead.since + dead.pause_s:
                _signal(running[name], signal.SIGSTOP)
                continue
            if dead.pause_s:
                _signal(running[name], signal.SIGCONT)
            self.slowest_restart_s = max(self.slowest_restart_s, time.monotonic() - dead.since)
            del self._dead[name]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
