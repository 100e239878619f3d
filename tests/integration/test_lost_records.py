"""Logs that lose records: each loss is reported, and the records in their place count."""

import asyncio
from contextlib import ExitStack

import pytest
from kafka import TopicPartition

from services.features.settings import FeaturesSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.log_changes import FaultKind, LogFault
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import LakeSettings, RedisSettings
from slipstream.contracts.topics import INTERACTIONS
from tests.integration.brokers import LIMIT_S, Cluster, administration
from tests.integration.reading import count, read_until
from tests.integration.records import outgoing
from tests.integration.running_materializer import (
    QUICK,
    RunningMaterializer,
    events_online,
    running,
)
from tests.waiting import until

pytestmark = pytest.mark.servers("real")

# One record reaches two replicas while both are up, and one replica alone will do.
UNSAFE = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
either = pytest.mark.parametrize("away", [False, True], ids=["while it reads", "while it is away"])


def reader_of(cluster: Cluster, namespace: str) -> Consumer:
    return Consumer(cluster.settings, namespace, [INTERACTIONS], "g")


def read(consumer: Consumer, number: int) -> set[str]:
    """Read and commit a number of records; returns their ids."""
    batches = read_until(consumer, lambda batches: count(batches) >= number, LIMIT_S)
    for batch in batches:
        assert consumer.commit(batch.next_offsets)
    return {message.record.event_id for batch in batches for message in batch.messages}


def first_fault(consumer: Consumer) -> LogFault:
    found: list[LogFault] = []

    def looked() -> bool:
        consumer.poll(0.1)
        found.extend(consumer.faults())
        return bool(found)

    until(looked, lambda: "no fault was found")
    return found[0]


def sample(run: RunningMaterializer, name: str, **labels: str) -> float:
    return run.metrics.registry.get_sample_value(name, labels) or 0.0


async def publish(cluster: Cluster, namespace: str, numbers: range) -> None:
    # An election among busy brokers may take longer than the usual wait.
    settings = cluster.settings.model_copy(update={"delivery_timeout_ms": 60_000})
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(numbers))
    producer.close()


@either
async def test_records_that_retention_deletes_before_they_are_read_are_counted(
    cluster: Cluster, namespace: str, away: bool
) -> None:
    name = await asyncio.to_thread(cluster.place, namespace, INTERACTIONS, [1, 2, 3])
    await publish(cluster, namespace, range(10))
    reader = await asyncio.to_thread(reader_of, cluster, namespace)
    assert len(await asyncio.to_thread(read, reader, 10)) == 10
    if away:
        reader.close()
    await publish(cluster, namespace, range(10, 50))
    with administration(cluster.settings) as admin:
        admin.delete_records({TopicPartition(name, 0): 35})
    if away:
        reader = await asyncio.to_thread(reader_of, cluster, namespace)
    fault = await asyncio.to_thread(first_fault, reader)
    reader.close()
    if away:
        assert fault == LogFault(INTERACTIONS.name, 0, FaultKind.DELETED, 25)
    else:  # it may have fetched some of them before
        assert (fault.kind, 0 < fault.records <= 25) == (FaultKind.DELETED, True)


@pytest.mark.parametrize(
    ("away", "more"), [(False, 2), (True, 30)], ids=["it reads on", "it returns to a longer log"]
)
async def test_a_log_that_lost_what_was_read_is_read_from_where_it_parts(
    cluster: Cluster, namespace: str, away: bool, more: int
) -> None:
    name = await asyncio.to_thread(cluster.place, namespace, INTERACTIONS, [1, 2], **UNSAFE)
    await publish(cluster, namespace, range(10))
    reader = await asyncio.to_thread(reader_of, cluster, namespace)
    await asyncio.to_thread(read, reader, 10)
    cluster.nodes[2].kill()
    await asyncio.to_thread(cluster.wait_for, name, 1, {1})
    await publish(cluster, namespace, range(10, 20))
    assert len(await asyncio.to_thread(read, reader, 10)) == 10
    if away:
        reader.close()
    await asyncio.to_thread(cluster.lead_by_second, name)
    await publish(cluster, namespace, range(100, 100 + more))
    cluster.restore()
    if away:
        reader = await asyncio.to_thread(reader_of, cluster, namespace)
    found = await asyncio.to_thread(read, reader, more)
    assert found == {f"e{number}" for number in range(100, 100 + more)}
    assert reader.faults() == [LogFault(INTERACTIONS.name, 0, FaultKind.TRUNCATED)]
    reader.close()


@either
async def test_records_under_the_offsets_of_lost_ones_count_once(
    cluster: Cluster,
    namespace: str,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    away: bool,
) -> None:
    settings = FeaturesSettings(
        namespace=namespace,
        kafka=cluster.settings,
        redis=redis_settings,
        lake=lake_settings,
        features=QUICK,
    )
    name = await asyncio.to_thread(cluster.place, namespace, INTERACTIONS, [1, 2], **UNSAFE)

    def settled(run: RunningMaterializer, events: int) -> None:
        until(
            lambda: events_online(run.store, 1) == events and run.materializer.progress().caught_up,
            lambda: f"{events_online(run.store, 1)} of {events} events count",
        )

    with ExitStack() as stack:
        run = await asyncio.to_thread(lambda: stack.enter_context(running(settings)))
        await publish(cluster, namespace, range(10))
        await asyncio.to_thread(settled, run, 10)
        cluster.nodes[2].kill()
        await asyncio.to_thread(cluster.wait_for, name, 1, {1})
        await publish(cluster, namespace, range(10, 20))
        await asyncio.to_thread(settled, run, 20)
        if away:
            stack.close()
        await asyncio.to_thread(cluster.lead_by_second, name)
        await publish(cluster, namespace, range(100, 105))
        if away:
            run = await asyncio.to_thread(lambda: stack.enter_context(running(settings)))
        await asyncio.to_thread(settled, run, 25)
        cluster.restore()
        await publish(cluster, namespace, range(105, 130))
        await asyncio.to_thread(settled, run, 50)
        assert sample(run, "slipstream_log_truncations_total", topic=INTERACTIONS.name) >= 1
        stack.close()
        # The names outlive a restart, and the log reaches beyond what is lost.
        run = await asyncio.to_thread(lambda: stack.enter_context(running(settings)))
        await publish(cluster, namespace, range(130, 140))
        await asyncio.to_thread(settled, run, 60)
        assert run.lake.read("interactions").num_rows == 60
        assert sample(run, "slipstream_log_truncations_total", topic=INTERACTIONS.name) == 0
        assert sample(run, "slipstream_features_rollbacks_total") == 0
