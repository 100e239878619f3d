"""The servers that tests run on: the embedded ones or, with TEST_SERVERS=real, those that
production has.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from pydantic import SecretStr

from bench import apache_kafka, installed_servers, postgresql
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream_cli.local import servers
from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.local.processes import Child, StartError, free_port, start_together
from tests.redis_clusters import cluster_children, cluster_url, join
from tests.sentinels import sentinel_children, sentinel_url

VARIABLE: Final = "TEST_SERVERS"


class RedisKind(StrEnum):
    """What a stack's Redis is: one server, a primary with replicas, or three nodes."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Servers(Protocol):
    """One kind of server, of which brokers and Redis are made. Each is a child that the caller
    starts and kills.
    """

    @property
    def kind(self) -> str:
        """What TEST_SERVERS calls it."""

    @property
    def versions(self) -> str:
        """The servers' names and versions."""

    @property
    def session_timeout_ms(self) -> int:
        """The shortest that its broker takes."""

    def broker(self, directory: Path, advertised_port: int = 0) -> Child:
        """A broker with its records in `directory`, if it keeps them. It sends clients to
        `advertised_port`; 0: to its own.
        """

    def redis(self, directory: Path) -> Child:
        """A Redis, or Valkey, with an append-only file in `directory`."""


class Embedded:
    """What `slipstream up` starts: Tansu, which keeps its records in memory, and Valkey."""

    kind = "embedded"
    # It holds a group's first join for half of that.
    session_timeout_ms = 2_000

    @property
    def versions(self) -> str:
        sqlite = f"SQLite {sqlite3.sqlite_version}"
        return f"{servers.broker_version()}, {servers.valkey_version()}, {sqlite}"

    def broker(self, directory: Path, advertised_port: int = 0) -> Child:
        return servers.broker(free_port(), advertised_port=advertised_port)

    def redis(self, directory: Path) -> Child:
        return servers.valkey(free_port(), directory)


@dataclass(frozen=True)
class Real:
    """What production has: Apache Kafka, from the distribution in `kafka_home`, and Redis; for SQL,
    PostgreSQL.
    """

    kafka_home: Path
    kind = "real"
    session_timeout_ms = 6_000

    @property
    def versions(self) -> str:
        return installed_servers.versions(self.kafka_home)

    def broker(self, directory: Path, advertised_port: int = 0) -> Child:
        return apache_kafka.kafka(
            self.kafka_home, free_port(), directory, advertised_port=advertised_port
        )

    def redis(self, directory: Path) -> Child:
        return installed_servers.redis(free_port(), directory)


def chosen(environment: Mapping[str, str] = os.environ) -> Servers:
    """The kind that `TEST_SERVERS` names. Raises `StartError` when it names none, or one that can't
    be started here.
    """
    kind = environment.get(VARIABLE) or Embedded.kind
    if kind == Embedded.kind:
        return Embedded()
    if kind != Real.kind:
        raise StartError(f"{VARIABLE} is {kind!r}; it can be {Embedded.kind} or {Real.kind}")
    return Real(installed_servers.kafka_home(environment))


def kafka_settings(servers: Servers, broker: Child) -> KafkaSettings:
    """How to reach the broker."""
    return KafkaSettings(
        bootstrap_servers=broker.address, session_timeout_ms=servers.session_timeout_ms
    )


def redis_settings(redis: Child) -> RedisSettings:
    """How to reach the Redis. A busy machine may keep an answer back for seconds."""
    return RedisSettings(url=SecretStr(f"redis://{redis.address}/0"), timeout_s=30.0)


@contextmanager
def database(servers: Servers, directory: Path) -> Iterator[str]:
    """The URL of an empty database: a SQLite file in `directory`, or one of a PostgreSQL that runs
    until the block ends.
    """
    if not isinstance(servers, Real):
        yield f"sqlite:///{directory / 'metadata.db'}"
        return
    with postgresql.temporary_postgresql(durable=False) as server:
        yield postgresql.create_database(server, "slipstream")


class Outside:
    """Processes that a stack's supervisor does not run, such as the servers that it finds by its
    environment. `children` has their names; what dies of them is started again, unless it is held.
    """

    def __init__(self, environment: Mapping[str, str], children: Mapping[str, Child]) -> None:
        self.environment, self.children = environment, children
        # Those that are not started again for now.
        self.held: set[str] = set()
        self._ended = threading.Event()
        self._starting = threading.Thread(target=self._run, name="servers")

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {
            name: child.process.pid
            for name, child in self.children.items()
            if child.process and child.alive
        }

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            for name, child in self.children.items():
                if not child.alive and name not in self.held:
                    child.launch()

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """What dies within the block stays dead until its end."""
        self.held.add(name)
        try:
            yield
        finally:
            self.held.discard(name)

    @contextmanager
    def watched(self) -> Iterator["Outside"]:
        """Started, and started again when they die, until the block ends."""
        try:
            start_together([child for child in self.children.values() if not child.alive])
            self._starting.start()
            yield self
        finally:
            self._ended.set()
            if self._starting.ident is not None:
                self._starting.join()
            for child in self.children.values():
                child.kill()


@contextmanager
def outside(
    servers: Servers,
    directory: Path,
    brokers: int = 1,
    kind: RedisKind = RedisKind.SINGLE,
    *,
    fsync: str = "always",
) -> Iterator[Outside]:
    """The servers of one stack that are no children of its supervisor: none of the embedded kind,
    all of the real one, which has so many brokers.

    They are called `postgresql` and `broker`, or `broker 1` and so on by the ids of a cluster's
    nodes; and `redis`, or as `tests.sentinels` and `tests.redis_clusters` call them.

    Args:
        servers: the kind of all of them.
        directory: their folder.
        brokers: the number of brokers.
        kind: what Redis is.
        fsync: `appendfsync` of a Redis Cluster's nodes.
    """
    if not isinstance(servers, Real):
        yield Outside({}, {})
        return
    with ExitStack() as stack:
        sql = stack.enter_context(postgresql.temporary_postgresql(durable=False))
        url = postgresql.create_database(sql, "slipstream")
        ports = [free_port() for _ in range(brokers)]
        nodes = apache_kafka.kafka_cluster(servers.kafka_home, ports, directory / "broker")
        redis = _redis(kind, servers, directory, fsync)
        environment = {
            **installed_servers.settings(nodes, next(iter(redis.values())), url),
            **_redis_url(kind, redis),
            "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": str(servers.session_timeout_ms),
        }
        names = ["broker"] if brokers == 1 else [f"broker {node}" for node in range(1, brokers + 1)]
        children = {**dict(zip(names, nodes, strict=True)), **redis, "postgresql": sql}
        running = stack.enter_context(Outside(environment, children).watched())
        if kind is RedisKind.CLUSTER:
            join(redis)
        yield running


def _redis(kind: RedisKind, servers: Real, directory: Path, fsync: str) -> dict[str, Child]:
    """The servers that make up Redis, by name, not yet started."""
    match kind:
        case RedisKind.SINGLE:
            return {"redis": servers.redis(directory / "redis")}
        case RedisKind.SENTINEL:
            return sentinel_children(directory)
        case RedisKind.CLUSTER:
            return cluster_children(directory, fsync)


def _redis_url(kind: RedisKind, redis: Mapping[str, Child]) -> dict[str, str]:
    """The setting that leads services to a Redis of several servers."""
    urls = {RedisKind.SENTINEL: sentinel_url, RedisKind.CLUSTER: cluster_url}
    return {EXTERNAL["valkey"]: urls[kind](redis)} if kind in urls else {}
