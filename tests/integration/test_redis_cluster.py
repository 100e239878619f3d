"""A Redis Cluster of three nodes is refused by each service that reads or writes Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from slipstream.chassis.settings import KafkaSettings
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.servers import redis_answers, redis_arguments
from tests.integration.launched_services import Launch, launch, lines
from tests.integration.running_materializer import until

__all__ = ["launch"]

pytestmark = pytest.mark.servers("real")

SLOTS = 16_384
NODES = 3


def node(directory: Path, bus_port: int) -> Child:
    """A node of a cluster that has no slots yet."""
    port = free_port()
    command = ["redis-server", *redis_arguments(port, directory), "--cluster-enabled", "yes"]
    return Child(
        "redis", port, [*command, "--cluster-port", str(bus_port)], redis_answers, grace_s=10.0
    )


@pytest.fixture(scope="module")
def node_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The URLs of a cluster's nodes, each with a third of the slots."""
    bus_ports = [free_port() for _ in range(NODES)]
    nodes = [node(tmp_path_factory.mktemp("node"), port).start() for port in bus_ports]
    clients = [redis.Redis(port=each.port) for each in nodes]
    for number, client in enumerate(clients):
        first, end = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus_ports[0])
    until(lambda: all(client.cluster("INFO")["cluster_state"] == "ok" for client in clients))
    yield [f"redis://{each.address}/0" for each in nodes]
    for each in nodes:
        each.kill()


@pytest.mark.parametrize(("name", "number"), [("features", 0), ("ingestion", 1), ("serving", 2)])
def test_service_ends_with_a_sentence_at_any_node(
    name: str,
    number: int,
    node_urls: list[str],
    launch: Launch,
    broker: KafkaSettings,
    tmp_path: Path,
) -> None:
    child = launch(
        name,
        kafka__bootstrap_servers=broker.bootstrap_servers,
        kafka__session_timeout_ms=str(broker.session_timeout_ms),
        redis__url=node_urls[number],
    )
    until(lambda: not child.alive)
    assert child.status == 1
    (said,) = [line for line in lines(tmp_path, name) if line["level"] == "critical"]
    assert "Redis Cluster" in said["reason"]
    assert "SLIPSTREAM_REDIS__URL" in said["reason"]
