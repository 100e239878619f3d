"""Nodes of a Redis Cluster that crash between two writes, and lose what was not settled."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec

import redis
from pydantic import SecretStr

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.connection import Call
from slipstream.stores.online import OnlineStore, StoreUnavailableError
from slipstream_cli.local.processes import Child
from tests.integration.redis_failures import append_only_file, crash_and_lose
from tests.redis_clusters import cluster_url, node_place, owner, wait_until_whole

P = ParamSpec("P")
_PATIENCE_S: Final = 60.0


class Losses:
    """The nodes, with the part of each one's file that a crash leaves.

    That is what was there at the last settling: an unused disk has nothing.
    """

    def __init__(self, directory: Path, children: dict[str, Child]) -> None:
        self._directory, self.children = directory, children
        self._kept: dict[str, int] = {}
        # A crash comes before or after a settling and the note of what stays since.
        self._settling = threading.Lock()
        self.keep()

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(url=SecretStr(cluster_url(self.children)), timeout_s=5.0)

    def keep(self) -> None:
        """Have all nodes keep what they have now."""
        self._kept = {name: self._file(name).stat().st_size for name in self.children}

    def clear(self) -> None:
        """Delete everything."""
        for child in self.children.values():
            with redis.Redis(port=child.port) as node:
                node.flushall()

    def crash(self, name: str) -> None:
        """Kill a node, cut off what it does not keep, and start it again."""
        with self._settling:
            crash_and_lose(self.children[name], self._file(name), self._kept[name])
        wait_until_whole(self.children)

    def store(self, namespace: str, *, settling: bool = True) -> OnlineStore:
        """A writer; without settling it writes as on one server."""
        store = OnlineStore(self.settings, namespace)
        settle = self.keeping(store._scripts.settle) if settling else lambda: None
        store._scripts.settle = settle  # type: ignore[method-assign]
        return store

    def keeping(self, settle: Callable[P, None]) -> Callable[P, None]:
        """A settling, after which all nodes keep what they have."""

        def settled(*args: P.args, **kwargs: P.kwargs) -> None:
            with self._settling:
                settle(*args, **kwargs)
                self.keep()

        return settled

    def crash_before(
        self, store: OnlineStore, script: str, key: str, node: str, *, nth: int = 1
    ) -> None:
        """Crash a node when this writer is about to run a script on a key for the `nth` time."""
        run, runs = store._scripts.run, list[str]()

        def crashing(name: str, calls: Sequence[Call]) -> list[Any]:
            if name == script and any(key in call.keys for call in calls):
                runs.append(script)
                if len(runs) == nth:
                    self.crash(node)
            return run(name, calls)

        store._scripts.run = crashing  # type: ignore[method-assign]

    def owner(self, key: str) -> str:
        """The name of the node that has a key."""
        return owner(self.children, key)

    def _file(self, name: str) -> Path:
        return append_only_file(node_place(self._directory, name))


def again(step: Callable[[], object]) -> None:
    """Do a step as a consumer does: again, until Redis did what was asked."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            step()
            return
        except StoreUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
