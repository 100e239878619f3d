"""Three brokers: what is acknowledged stays, and every reader finds it, whatever befalls one."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from kafka.admin import NewTopic

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Producer
from slipstream.broker.records import Batch
from slipstream.broker.topics import ensure_topics, physical, topic_differences, topic_ids
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.topics import CATALOG, INTERACTIONS
from tests.integration.brokers import LIMIT_S, Cluster, administration
from tests.integration.reading import count, read_until
from tests.integration.records import outgoing
from tests.integration.test_broker_topics import items
from tests.integration.test_ingestion import AUTH, ingestion, track
from tests.topics import recreate_topics
from tests.waiting import until

pytestmark = [pytest.mark.servers("real"), pytest.mark.timeout(900)]


def ids(batches: list[Batch]) -> set[str]:
    return {message.record.event_id for batch in batches for message in batch.messages}


def read_on(
    cluster: Cluster,
    namespace: str,
    seen: set[str],
    done: Callable[[], bool],
    group: str | None = "g",
) -> None:
    """Read and commit until `done`; notes the ids that came.

    As a service's worker does, it starts over after an answer that did not come. Fails after
    `LIMIT_S` without a record.
    """
    watch = ConsumerWatch(Metrics("test"))
    deadline = time.monotonic() + LIMIT_S
    while not done():
        with suppress(BrokerUnavailableError):
            consumer = Consumer(cluster.settings, namespace, [INTERACTIONS], group)
            try:
                watch.begin(consumer)
                while not done():
                    assert time.monotonic() < deadline, f"{len(seen)} came"
                    if batch := consumer.poll(0.1):
                        deadline = time.monotonic() + LIMIT_S
                    seen |= ids([batch])
                    consumer.commit(batch.next_offsets)
                    watch.update()
            finally:
                consumer.close()  # a member that does not answer holds up the next one's join


def add_partitions(cluster: Cluster, name: str, wanted: int) -> None:
    """Give a topic so many partitions, and wait until each has a leader."""
    with administration(cluster.settings) as admin:
        admin.create_partitions({name: wanted})
    until(lambda: len(cluster.partitions(name)) == wanted, lambda: cluster.partitions(name))
    cluster.wait_until_led(name)


async def test_every_reader_finds_partitions_that_are_added(
    cluster: Cluster, namespace: str
) -> None:
    settings, name = cluster.settings, physical(namespace, INTERACTIONS)
    await asyncio.to_thread(ensure_topics, settings, namespace)
    readers = [Consumer(settings, namespace, [INTERACTIONS], group) for group in ("g", None)]
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100), users=50))
    for reader in readers:
        await asyncio.to_thread(read_until, reader, lambda b: count(b) >= 100, LIMIT_S)
    producer.close()
    await asyncio.to_thread(add_partitions, cluster, name, 30)
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100, 1_000), users=300))
    late = await asyncio.to_thread(Consumer, settings, namespace, [INTERACTIONS], None)
    expected = {f"e{n}" for n in range(100, 1_000)}
    for reader in (*readers, late):
        # A rebalance has records read again that were not committed, so their number says nothing.
        batches = await asyncio.to_thread(
            read_until, reader, lambda read: ids(read) >= expected, LIMIT_S
        )
        messages = [message for batch in batches for message in batch.messages]
        assert max(message.source.partition for message in messages) >= INTERACTIONS.partitions
        assert len(reader.standing().partitions) == 30
        reader.close()
    producer.close()


def test_topics_of_three_replicas_need_two_in_sync_and_never_an_unclean_leader(
    cluster: Cluster, namespace: str
) -> None:
    settings = cluster.settings
    with administration(settings) as admin:
        admin.create_topics(
            [
                NewTopic(
                    physical(namespace, INTERACTIONS),
                    6,
                    2,
                    topic_configs={
                        "min.insync.replicas": "1",
                        "unclean.leader.election.enable": "true",
                        "retention.ms": str(INTERACTIONS.retention_ms),
                    },
                )
            ],
            wait_for_metadata=True,
        )
    ensure_topics(settings, namespace)
    name = physical(namespace, INTERACTIONS)
    assert topic_differences(settings, namespace) == [
        f"{name} has 6 partitions, and 12 are wanted: "
        f"kafka-topics.sh --alter --topic {name} --partitions 12",
        f"{name} has 2 replicas, and 3 are wanted: give it more with "
        "kafka-reassign-partitions.sh, or set SLIPSTREAM_KAFKA__REPLICATION_FACTOR to 2",
        *(
            f"{name} has {setting}={found}, and {wanted} is wanted: kafka-configs.sh --alter "
            f"--entity-type topics --entity-name {name} --add-config {setting}={wanted}"
            for setting, found, wanted in (
                ("min.insync.replicas", "1", "2"),
                ("unclean.leader.election.enable", "true", "false"),
            )
        ),
    ], "topics made before are reported, and those made just now are as requested"


async def test_keys_of_a_compacted_topic_stay_in_their_partitions_when_some_are_added(
    cluster: Cluster, namespace: str
) -> None:
    settings, name = cluster.settings, physical(namespace, CATALOG)
    await asyncio.to_thread(ensure_topics, settings, namespace)
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(items(range(100)))
    producer.close()
    await asyncio.to_thread(add_partitions, cluster, name, 20)
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(items(range(100)))
    producer.close()
    reader = await asyncio.to_thread(Consumer, settings, namespace, [CATALOG], None)
    batches = await asyncio.to_thread(read_until, reader, lambda b: count(b) >= 200, LIMIT_S)
    reader.close()
    partitions: dict[str, set[int]] = {}
    for message in (message for batch in batches for message in batch.messages):
        assert isinstance(message.record, CatalogRecord)
        partitions.setdefault(message.record.entity_id, set()).add(message.source.partition)
    assert [len(found) for found in partitions.values()] == [1] * 100
    (difference,) = await asyncio.to_thread(topic_differences, settings, namespace, [CATALOG])
    assert difference.startswith(f"{name} has 20 partitions, and 12 are wanted: leave it so. The")


def test_ingestion_answers_503_while_one_replica_is_in_sync_and_loses_nothing_acknowledged(
    cluster: Cluster, namespace: str
) -> None:
    name = cluster.place(namespace, INTERACTIONS, [1, 2], **{"min.insync.replicas": "2"})
    settings = cluster.settings.model_copy(update={"delivery_timeout_ms": 3_000})
    numbers, acknowledged = itertools.count(), []

    def send() -> int:
        message_id = f"m-{next(numbers)}"
        answer = client.post("/v1/track", json=track("ada", "a", message_id), auth=AUTH)
        if answer.status_code == 200:
            acknowledged.append(message_id)
        else:
            assert answer.json()["code"] == "broker_unavailable", answer.text
            assert answer.headers["Retry-After"]
        return int(answer.status_code)

    with ingestion(settings, namespace) as client:
        until(lambda: send() == 200, lambda: "it takes nothing")
        cluster.nodes[2].kill()
        cluster.wait_for(name, leader=1, in_sync={1})
        assert [send() for _ in range(3)] == [503] * 3, "it was taken by one replica alone"
        cluster.restore()
        cluster.wait_for(name, leader=1, in_sync={1, 2})
        until(lambda: send() == 200, lambda: "it takes nothing again")
        cluster.nodes[1].kill()  # what it acknowledged is on the other
        cluster.wait_for(name, leader=2, in_sync={2})
        # The newest of it may be shown only when two are in sync again.
        cluster.restore()
        seen: set[str] = set()
        read_on(cluster, namespace, seen, lambda: seen.issuperset(acknowledged), group=None)


async def acknowledged_under_load(
    cluster: Cluster, namespace: str, befall: Callable[[str], None]
) -> set[str]:
    """Ids that were acknowledged while something befell the topic of the given name. They have all
    come to a reader in a group that commits what it was given.
    """
    name = physical(namespace, INTERACTIONS)
    await asyncio.to_thread(ensure_topics, cluster.settings, namespace)
    producer = await asyncio.to_thread(Producer, cluster.settings, namespace)
    acknowledged: set[str] = set()
    seen: set[str] = set()
    over = threading.Event()

    async def write() -> None:
        sent = 0
        while not over.is_set():
            records = outgoing(range(sent, sent + 10), users=40)
            sent += 10
            try:
                await producer.publish(records)
            except BrokerUnavailableError:
                continue
            acknowledged.update(record.record.event_id for record in records)  # type: ignore[union-attr]
            await asyncio.sleep(0.02)

    with ThreadPoolExecutor(2) as threads:
        loop = asyncio.get_running_loop()
        writing = asyncio.create_task(write())
        reading = loop.run_in_executor(
            threads,
            read_on, cluster, namespace, seen, lambda: over.is_set() and acknowledged <= seen,
        )  # fmt: skip
        try:
            await loop.run_in_executor(threads, befall, name)
        finally:
            over.set()
            await writing
        await reading
    await asyncio.to_thread(producer.close)
    return acknowledged


async def test_a_leader_that_is_killed_under_load_takes_nothing_acknowledged_with_it(
    cluster: Cluster, namespace: str
) -> None:
    def kill_each_once(name: str) -> None:
        cluster.wait_until_led(name, in_sync=3)
        for number in cluster.nodes:
            leader = int(str(cluster.partition(name, number)["leader_id"]))
            cluster.nodes[leader].kill()
            cluster.wait_until_led(name, without={leader})
            cluster.restore()
            cluster.wait_until_led(name, in_sync=3)

    assert len(await acknowledged_under_load(cluster, namespace, kill_each_once)) > 100


async def test_a_rolling_restart_under_load_loses_nothing(cluster: Cluster, namespace: str) -> None:
    def restart_each(name: str) -> None:
        for node in cluster.nodes.values():
            node.stop()
            cluster.restore()
            cluster.wait_until_led(name, in_sync=3)

    assert len(await acknowledged_under_load(cluster, namespace, restart_each)) > 100


async def test_a_topic_that_is_recreated_is_read_from_its_beginning(
    cluster: Cluster, namespace: str
) -> None:
    settings, name = cluster.settings, physical(namespace, INTERACTIONS)
    await asyncio.to_thread(ensure_topics, settings, namespace)
    readers = [Consumer(settings, namespace, [INTERACTIONS], group) for group in ("g", None)]
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100), users=50))
    for reader in readers:
        for batch in await asyncio.to_thread(
            read_until, reader, lambda b: count(b) >= 100, LIMIT_S
        ):
            reader.commit(batch.next_offsets)
    await asyncio.to_thread(recreate_topics, settings, namespace)
    producer.close()
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(100, 150), users=50))
    producer.close()
    expected = {f"e{number}" for number in range(100, 150)}
    recreated = topic_ids(settings, [name])[name]
    for reader in readers:
        # A rebalance has records read again.
        batches = await asyncio.to_thread(read_until, reader, lambda b: ids(b) >= expected, LIMIT_S)
        assert ids(batches) == expected
        assert {m.source.topic_id for b in batches for m in b.messages} == {recreated}
        assert reader.faults() == [], "no record was lost: the topic is another one"
        reader.close()
