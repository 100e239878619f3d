"""Three brokers for tests: their settings, their nodes, and topics that lie where a test wants."""

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from bench import apache_kafka
from slipstream.broker.kafka import connection
from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic
from slipstream_cli.local.processes import Child, free_port, start_together
from tests.waiting import until

# Brokers of three on a busy machine are slow to start and to elect.
LIMIT_S = 150.0


@dataclass(frozen=True)
class Cluster:
    """Three brokers; `nodes` are their processes, by the ids of the brokers. `starter` is the
    thread that starts them: they die with it.
    """

    settings: KafkaSettings
    nodes: Mapping[int, Child]
    starter: ThreadPoolExecutor

    def restore(self) -> None:
        """Start the nodes that are down, and wait until all of them answer."""
        if down := [node for node in self.nodes.values() if not node.alive]:
            self.starter.submit(start_together, down).result()

    def lead_by_second(self, name: str) -> None:
        """Let a topic's first partition be led by node 2, which is down, in place of node 1: what
        was written meanwhile is lost.
        """
        self.nodes[1].kill()
        self.starter.submit(self.nodes[2].start).result()
        self.wait_for(name, leader=2, in_sync={2})

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

    def partitions(self, name: str) -> list[dict[str, Any]]:
        """A topic's partitions as a broker describes them; empty without an answer."""
        try:
            with administration(self.settings) as admin:
                return list(admin.describe_topics([name])[0]["partitions"])
        except KafkaError:
            return []

    def partition(self, name: str, number: int = 0) -> dict[str, Any]:
        """One of them; empty without an answer."""
        return next((p for p in self.partitions(name) if p["partition_index"] == number), {})

    def wait_for(self, name: str, leader: int, in_sync: set[int]) -> None:
        """Wait until a topic's first partition has this leader and these replicas in sync."""

        def reached() -> bool:
            found = self.partition(name)
            return (found.get("leader_id"), set(found.get("isr_nodes", ()))) == (leader, in_sync)

        until(reached, lambda: f"{name}: {self.partition(name)}")

    def wait_until_led(self, name: str, in_sync: int = 2, without: Set[int] = frozenset()) -> None:
        """Wait until every partition has a leader that is none of `without`, and `in_sync` replicas
        in sync.
        """

        def led() -> bool:
            found = self.partitions(name)
            return bool(found) and all(
                p["leader_id"] not in {-1, *without} and len(p["isr_nodes"]) >= in_sync
                for p in found
            )

        until(led, lambda: f"{name}: {self.partitions(name)}")


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
    """Run three brokers, with their records in `directory`, until the block ends."""
    home = apache_kafka.home_of(os.environ)
    assert home is not None
    ports = [free_port() for _ in range(3)]
    nodes = apache_kafka.kafka_cluster(home, ports, directory)
    settings = KafkaSettings(
        bootstrap_servers=",".join(node.address for node in nodes),
        replication_factor=3,
        session_timeout_ms=6_000,
        delivery_timeout_ms=60_000,  # so long may an election take on a busy machine
    )
    with ThreadPoolExecutor(1, thread_name_prefix="brokers") as starter:
        cluster = Cluster(settings, dict(enumerate(nodes, 1)), starter)
        try:
            cluster.restore()
            yield cluster
        finally:
            for node in nodes:
                node.kill()
