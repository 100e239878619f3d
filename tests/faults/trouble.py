"""Faults of a bed other than SIGKILL, and the thread that causes them."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.stack import Stack
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.fault_thread import FaultThread
from tests.faults.replicas import Launch
from tests.servers import RedisKind

APART_S = 5.0


class Trouble(ABC):
    """A kind of fault, which strikes a bed several times. A subclass says what that is.

    `strikes` names each of them, in their order. `beside` is the commit of another version, for
    those that run one.
    """

    strikes: tuple[str, ...] = ()
    # The kinds of Redis that it can befall.
    redis: tuple[RedisKind, ...] = (RedisKind.SINGLE,)
    # `appendfsync` of a cluster's nodes: what is written once a second can be lost.
    fsync = "always"

    def __init__(self, beside: str = "") -> None:
        self.beside = beside

    def lacking(self) -> str:
        """What this machine lacks for it, with the way to get it; empty when it can be done."""
        return ""

    def prepare(self, directory: Path, opened: ExitStack) -> Mapping[str, str]:
        """Make what must be there before the servers start; `opened` undoes it at the end.

        Returns the settings of the whole stack that differ.
        """
        return {}

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        """Make what must be there before the further processes start; `opened` undoes it.

        Returns what differs when they start, by name.
        """
        return {}

    @abstractmethod
    def strike(self, name: str, bed: Bed, client: Client) -> None:
        """Do it, and mend it again. Services may still be about to recover then."""


class NoTrouble(Trouble):
    """The trouble of a bed that nothing befalls but SIGKILL."""

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        raise AssertionError(f"there is no {name!r} to bring about")


class Strikes(FaultThread):
    """Brings some strikes of a trouble about in turn, `APART_S` seconds apart, under load.

    Between two of them every process becomes ready again.
    """

    def __init__(self, trouble: Trouble, names: Sequence[str], bed: Bed, client: Client) -> None:
        super().__init__("strikes")
        self._trouble, self._bed, self._client = trouble, bed, client
        self._left = list(names)

    @property
    def left(self) -> Counter[str]:
        return Counter(self._left)

    def _bring_about(self) -> None:
        while self._left and not self._ended.wait(APART_S):
            self._trouble.strike(self._left[0], self._bed, self._client)
            self.kills[self._left.pop(0)] += 1
            since = time.monotonic()
            while self._bed.unready() and not self._ended.wait(0.2):
                pass
            self.slowest_restart_s = max(self.slowest_restart_s, time.monotonic() - since)
