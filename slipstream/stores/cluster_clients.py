"""Clients of a Redis Cluster: redis-py's own, which connect on first use, and wait for a turn.

They ask the nodes in the URL where the others are, whenever that has changed. So a name that leads
to other addresses by then is looked up again.

Writes are settled: every node confirms that it keeps what it has. A node that crashes loses the
end of its history, and so alone that a write on another node may outlive what it followed from. So
a writer waits in between, until the disk of each node has what was written, and all its replicas,
since any of them may take over.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger
from slipstream.stores.layout import Keys

# Times that a command is tried again, after a refresh of which node has its slot.
_RETRIES: Final = 3
# As many as a node's class can count: turns limit them.
_MANY: Final = 2**31 - 1
# Refusals after which the nodes are asked again who has which slot (a moved one is an `AskError`).
_MOVED: Final = (AskError, ClusterDownError, TryAgainError)
_SCRIPT: Final = "EVALSHA"
# What redis-py says of a server that is alone.
_NO_CLUSTER: Final = "Cluster mode is not enabled"

Command = Sequence[Any]


class BlockingCluster:
    """A blocking client of all nodes. Threads may share it.

    A command with keys goes to the node that has the first one's slot, and is tried again there
    when that has changed. Pipelines, `mget` and `ask` try nothing again: part of it may have been
    done, by a node that is another one by now.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        self._nodes, self._options = nodes, options
        self._client: RedisCluster | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected(), name)

    def mget(self, keys: Sequence[str]) -> list[Any]:
        """The values of keys on any nodes, each as it is when its node is asked."""
        pipeline = self.pipeline()
        for key in keys:
            pipeline.execute_command("GET", key)
        return pipeline.execute()

    def pipeline(self, *, transaction: bool = False) -> "ClusterPipeline":
        """Commands for many nodes, which can't be one transaction."""
        assert not transaction  # noqa: S101
        return ClusterPipeline(self)

    def primaries(self) -> dict[str, Any]:
        """A client of each node that has slots, by the node's address."""
        with _as_errors_of_redis():
            cluster = self._connected()
            nodes = cluster.get_primaries()  # type: ignore[no-untyped-call]
            return {node.name: cluster.get_redis_connection(node) for node in nodes}

    def slots(self) -> Mapping[int, Sequence[ClusterNode]]:
        """The nodes of each slot, its owner first: another mapping once any has moved."""
        with _as_errors_of_redis():
            return self._connected().nodes_manager.slots_cache

    def owners(self, keys: Iterable[str]) -> list[str]:
        """The addresses of the nodes that have the slots of these keys."""
        slots = self.slots()
        return [str(slots[key_slot(key.encode())][0].name) for key in keys]

    def ask(
        self, commands: Mapping[str, Sequence[Command]], wait_s: float = 0.0
    ) -> dict[str, list[Any]]:
        """Send each node its commands on one connection, and read when all have been sent. Commands
        and answers go by node address; refusals come as exceptions. `wait_s` is on top of the
        client's deadline.
        """
        timeout_s = self._options["socket_timeout"] + wait_s
        with self.refreshing():
            answers = self._ask(commands, timeout_s)
        if any(isinstance(each, _MOVED) for theirs in answers.values() for each in theirs):
            self.refresh()
        return answers

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Ask again who has which slot when the block fails to reach a node.

        Another node may have taken over.
        """
        try:
            yield
        except (RedisError, OSError):
            self.refresh()
            raise

    def refresh(self) -> None:
        """Ask the nodes again who has which slot; the known slots stay while none answers."""
        with suppress(RedisError, RedisClusterException, OSError):
            self._connected().nodes_manager.initialize()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _ask(
        self, commands: Mapping[str, Sequence[Command]], timeout_s: float
    ) -> dict[str, list[Any]]:
        clients = self.primaries()
        taken: dict[str, tuple[Any, Any]] = {}
        answers: dict[str, list[Any]] = {name: [] for name in commands}
        try:
            for name, theirs in commands.items():
                if name not in clients:
                    raise RedisConnectionError(f"the node {name} has no slots any more")
                pool = clients[name].connection_pool
                connection = pool.get_connection()
                taken[name] = pool, connection
                connection.send_packed_command(connection.pack_commands(theirs))
            for name, theirs in commands.items():
                for _ in theirs:
                    answers[name].append(_answer(taken[name][1], timeout_s))
        except (RedisError, OSError):
            for _, connection in taken.values():
                connection.disconnect()
            raise
        finally:
            for pool, connection in taken.values():
                pool.release(connection)
        return answers

    def _connected(self) -> RedisCluster:
        with self._lock:
            if self._client is None:
                try:
                    self._client = RedisCluster(
                        startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],  # type: ignore[no-untyped-call]
                        dynamic_startup_nodes=False,
                        reinitialize_steps=1,  # so that `slots` tells of every move
                        retry=Retry(NoBackoff(), _RETRIES),
                        **self._options,
                    )
                except RedisClusterException as error:
                    if _NO_CLUSTER in str(error):
                        raise RefusedSettingsError(
                            "SLIPSTREAM_REDIS__URL names nodes of a Redis Cluster, which has "
                            "cluster-enabled no there: name the server by redis://host:port/db"
                        ) from error
                    raise
            return self._client


class ClusterPipeline:
    """Commands with keys, which go to all nodes at once. Answers are as they come from the wire."""

    def __init__(self, cluster: BlockingCluster) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def hget(self, key: str, field: str) -> None:
        self.execute_command("HGET", key, field)

    def hmget(self, key: str, *fields: str) -> None:
        self.execute_command("HMGET", key, *fields)

    def pexpire(self, key: str, ms: int) -> None:
        self.execute_command("PEXPIRE", key, ms)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; the answers in their order, refusals as exceptions or raised."""
        commands, self._commands = self._commands, []
        by_node: dict[str, list[Command]] = {}
        owners = self._cluster.owners(map(_key, commands))
        for owner, command in zip(owners, commands, strict=True):
            by_node.setdefault(owner, []).append(command)
        answers = {name: iter(theirs) for name, theirs in self._cluster.ask(by_node).items()}
        outcomes = [next(answers[owner]) for owner in owners]
        if raise_on_error:
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
        return outcomes


class WaitingCluster(AsyncRedisCluster):
    """A client for an event loop. Its commands wait for one of `max_connections` turns.

    redis-py's own refuses a command when all connections to a node are taken. Pipelines do not
    wait; whoever sends them limits their number.
    """

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        options: Mapping[str, Any],
        *,
        max_connections: int,
        timeout: float,
    ) -> None:
        super().__init__(
            startup_nodes=[AsyncClusterNode(host, port) for host, port in nodes],
            dynamic_startup_nodes=False,
            max_connections=_MANY,
            **{"retry": Retry(NoBackoff(), _RETRIES), **options},
        )
        self._turns, self._timeout_s = asyncio.Semaphore(max_connections), timeout

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise RedisTimeoutError("no connection to Redis was free in time") from error
        try:
            with _as_errors_of_redis():
                return await super().execute_command(*args, **kwargs)
        finally:
            self._turns.release()


@contextmanager
def _as_errors_of_redis() -> Iterator[None]:
    """Within the block, errors that redis-py's clients of clusters raise are errors of Redis."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error


def _answer(connection: Any, timeout_s: float) -> Any:
    try:
        return connection.read_response(timeout=timeout_s)
    except ResponseError as error:
        return error


def _key(command: Command) -> str:
    """The first key of a command."""
    return str(command[3] if command[0] == _SCRIPT else command[1])


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
        # Warnings of nodes that are in the log already.
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
        """Whether a node's answers confirm; False when the wait must be for more replicas."""
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
