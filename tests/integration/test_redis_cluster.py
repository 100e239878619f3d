"""A Redis Cluster of three nodes is refused by each service that reads or writes Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.chassis.settings import KafkaSettings
from tests.integration.launched_services import Launch, lines
from tests.redis_clusters import running_cluster
from tests.waiting import until

pytestmark = pytest.mark.servers("real")


@pytest.fixture(scope="module")
def node_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The URLs of a cluster's nodes, each as that of one server."""
    with running_cluster(tmp_path_factory.mktemp("nodes")) as nodes:
        yield [f"redis://{each.address}/0" for each in nodes.values()]


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
