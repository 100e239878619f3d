"""Settling of writes on a Redis Cluster: every node confirms that it keeps what it has.

A node that crashes loses the end of its history, and so alone that a write on another node may
outlive what it followed from. So a writer waits in between, until the disk of each node has what
was written, and all its replicas, since any of them may take over.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from slipstream.chassis.logging import get_logger
from slipstream.stores.cluster_clients import BlockingCluster, Command
from slipstream.stores.keys import Keys

log = get_logger(__name__)

# Longest wait for the disk, and then for replicas. `appendfsync everysec` takes a second.
WAIT_S: Final = 2.0
_WAIT_MS: Final = int(WAIT_S * 1000)


class Settlement:
    """Settling for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, cluster: BlockingCluster, keys: Keys) -> None:
        self._cluster, self._keys = cluster, keys
        self._slots: Mapping[int, Any] | None = None
        # A key of each node's own, by the node's address.
        self._own: dict[str, str] = {}
        # How many replicas each node had that follow it.
        self._replicas: dict[str, int] = {}
        # What the log has been told of nodes.
        self._told = set[tuple[str, str]]()

    def reach(self, sha: str) -> None:
        """Return when every node keeps what it has, as far as it can.

        A node keeps it on its disk, where it has an append-only file and knows WAITAOF (Redis 7.2),
        and on every replica that follows it. Raises `ConnectionError` for one that does not confirm
        that in time. `sha` is the digest of the writer's `settle.lua`: a node that has restarted
        refuses it.
        """
        waiting = self._own_keys()
        while waiting:
            commands = {
                name: _commands(sha, key, self._replicas.get(name, 0))
                for name, key in waiting.items()
            }
            answers = self._cluster.ask(commands, 2 * WAIT_S)
            waiting = {
                name: key for name, key in waiting.items() if not self._keeps(name, answers[name])
            }

    def _keeps(self, name: str, answers: Sequence[Any]) -> bool:
        """Whether a node's answers confirm; False when it has to be asked for more replicas."""
        written, on_disk, *received, role = answers
        if isinstance(written, Exception):
            raise written
        if not isinstance(on_disk, ResponseError) and not on_disk[0]:
            raise RedisConnectionError(f"the disk of {name} did not have all writes in time")
        before = self._replicas.get(name, 0)
        followed = 0 if isinstance(role, ResponseError) or role[0] != b"master" else len(role[2])
        self._replicas[name] = followed
        confirmed = received[0] if received else 0
        if confirmed < min(before, followed):
            raise RedisConnectionError(f"a replica of {name} did not have all writes in time")
        return bool(confirmed >= followed)

    def _own_keys(self) -> Mapping[str, str]:
        slots = self._cluster.slots()
        if slots is not self._slots:
            names, self._own = {nodes[0].name for nodes in slots.values()}, {}
            tags = count()
            while self._own.keys() != names:
                key = self._keys.settled(next(tags))
                self._own.setdefault(self._cluster.owners([key])[0], key)
            self._slots = slots
            self._warn()
        return self._own

    def _warn(self) -> None:
        """Tell the log of each node that keeps nothing, or is slow to keep something."""
        for name, node in self._cluster.primaries().items():
            with suppress(ResponseError):  # one that does not tell passes
                hazard = _hazard(node)
                if hazard and (name, hazard) not in self._told:
                    self._told.add((name, hazard))
                    log.warning(hazard, node=name)


def _hazard(node: Any) -> str:
    """What is wrong with how a node keeps its writes; empty for nothing."""
    facts = node.info()
    if not facts["aof_enabled"]:
        if facts["connected_slaves"]:
            return ""
        return "a node of Redis keeps nothing that outlives it: set appendonly yes"
    if node.config_get("appendfsync")["appendfsync"] == "always":
        return ""
    return "each batch waits for the disk of a node for up to seconds: set appendfsync always"


def _commands(sha: str, key: str, replicas: int) -> list[Command]:
    """What a node is asked on one connection, for it waits for the connection's last write."""
    commands: list[Command] = [("EVALSHA", sha, 1, key), ("WAITAOF", 1, 0, _WAIT_MS)]
    if replicas:
        commands.append(("WAIT", replicas, _WAIT_MS))
    return [*commands, ("ROLE",)]
