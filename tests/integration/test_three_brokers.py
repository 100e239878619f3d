"""Three brokers: what is acknowledged stays and comes once, whatever befalls one of them."""

import asyncio
from collections.abc import Iterator

import pytest

from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics, physical
from slipstream.contracts.topics import INTERACTIONS
from tests.integration.brokers import Cluster, administration, three_brokers
from tests.integration.reading import count, read_until
from tests.integration.records import outgoing

pytestmark = pytest.mark.servers("real")


@pytest.fixture(scope="module")
def started_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three_brokers(tmp_path_factory.mktemp("brokers")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started_cluster: Cluster) -> Iterator[Cluster]:
    """The three brokers that this module's tests share; all of them are up after each test."""
    yield started_cluster
    started_cluster.restore()


async def test_every_reader_finds_partitions_that_are_added(
    cluster: Cluster, namespace: str
) -> None:
    settings, name = cluster.settings, physical(namespace, INTERACTIONS)
    await asyncio.to_thread(ensure_topics, settings, namespace)
    readers = [Consumer(settings, namespace, [INTERACTIONS], group) for group in ("g", None)]
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100), users=50))
    for reader in readers:
        await asyncio.to_thread(read_until, reader, lambda b: count(b) >= 100)
    producer.close()
    with administration(settings) as admin:
        admin.create_partitions({name: 30})
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100, 1_000), users=300))
    late = await asyncio.to_thread(Consumer, settings, namespace, [INTERACTIONS], None)
    for reader, expected in zip((*readers, late), (900, 900, 1_000), strict=True):
        batches = await asyncio.to_thread(read_until, reader, lambda b, n=expected: count(b) >= n)
        messages = [message for batch in batches for message in batch.messages]
        assert {m.record.event_id for m in messages} >= {f"e{n}" for n in range(100, 1_000)}
        assert max(message.source.partition for message in messages) >= INTERACTIONS.partitions
        assert len(reader.standing().partitions) == 30
        reader.close()
    producer.close()
