"""Three brokers for tests: their settings, their nodes, and topics that lie where a test wants."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from slipstream.broker.kafka import connection
from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic
from slipstream_cli.local import apache_kafka
from slipstream_cli.local.processes import Child, free_port, start_together

LIMIT_S = 90.0


@dataclass(frozen=True)
class Cluster:
    """Three brokers; `nodes` are their processes, by the ids of the brokers."""

    settings: KafkaSettings
    nodes: Mapping[int, Child]

    def restore(self) -> None:
        """Start the nodes that are down, and wait until all of them answer."""
        if down := [node for node in self.nodes.values() if not node.alive]:
            start_together(down)

    def place(self, namespace: str, topic: Topic, nodes: Sequence[int], **configs: str) -> str:
        """Make a topic of one partition that lies on these nodes, led by the first; returns its
        name. The other topics are made as services do.
        """
        name = physical(namespace, topic)
        with administration(self.settings) as admin:
            admin.create_topics(
                [NewTopic(name, replica_assignments={0: [*nodes]}, topic_configs=configs)],
                wait_for_metadata=True,
            )
        ensure_topics(self.settings, namespace)
        return name

    def partition(self, name: str, number: int = 0) -> dict[str, object]:
        """A partition as the brokers that are up describe it; empty without an answer."""
        try:
            with administration(self.settings) as admin:
                (topic,) = admin.describe_topics([name])
        except Exception:
            return {}
        return next((p for p in topic["partitions"] if p["partition_index"] == number), {})

    def wait_for(self, name: str, leader: int, in_sync: set[int]) -> None:
        """Wait until a topic's first partition has this leader and these replicas in sync."""
        until(
            lambda: (
                (found := self.partition(name)).get("leader_id") == leader
                and set(found.get("isr_nodes", ())) == in_sync  # type: ignore[call-overload]
            ),
            lambda: f"{name}: {self.partition(name)}",
        )


@contextmanager
def administration(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """An admin client that is closed at the end of the block."""
    admin = KafkaAdminClient(**connection(settings))
    try:
        yield admin
    finally:
        admin.close()


@contextmanager
def three_brokers(directory: Path) -> Iterator[Cluster]:
    """Start three brokers, whose records lie in `directory`, until the block ends."""
    home = apache_kafka.home_of(os.environ)
    assert home is not None
    ports = [free_port() for _ in range(3)]
    nodes = apache_kafka.kafka_cluster(home, ports, directory)
    settings = KafkaSettings(
        bootstrap_servers=",".join(node.address for node in nodes),
        replication_factor=3,
        session_timeout_ms=6_000,
    )
    try:
        start_together(nodes)
        yield Cluster(settings, dict(enumerate(nodes, 1)))
    finally:
        for node in nodes:
            node.kill()


def until(done: Callable[[], bool], state: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until `done`; fail with the state after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, state()
        time.sleep(0.05)
