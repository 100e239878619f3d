"""Ends of topics and committed offsets, as the broker tells them."""

import asyncio
import time

from slipstream.broker.consumer import Consumer
from slipstream.broker.log_ends import committed_offsets, log_beginnings, log_ends
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from tests.integration.reading import count, patient, read_until
from tests.integration.records import outgoing, published


async def test_every_acknowledged_record_stands_before_the_ends(
    broker: KafkaSettings, namespace: str
) -> None:
    topics = [INTERACTIONS, PEOPLE]
    await asyncio.to_thread(ensure_topics, broker, namespace, topics)
    producer = await asyncio.to_thread(Producer, broker, namespace)
    sent = 0
    for number in (1, 7, 500):
        await published(producer, outgoing(range(number), users=40))
        sent += number
        ends = await asyncio.to_thread(log_ends, broker, namespace, topics)
        assert sum(ends[INTERACTIONS.name].values()) == sent
        assert set(ends[PEOPLE.name].values()) == {0}
        assert len(ends[INTERACTIONS.name]) == INTERACTIONS.partitions
    await asyncio.to_thread(producer.close)
    beginnings = await asyncio.to_thread(log_beginnings, broker, namespace, topics)
    assert set(beginnings[INTERACTIONS.name].values()) == {0}

    def read_and_commit() -> None:
        consumer = Consumer(patient(broker), namespace, topics, "g")
        offsets: dict[Source, int] = {}
        for batch in read_until(consumer, lambda batches: count(batches) >= sent):
            offsets |= batch.next_offsets
        deadline = time.monotonic() + 60
        while not consumer.commit(offsets):
            assert time.monotonic() < deadline, "nothing is committed"
            consumer.poll(0.1)
        consumer.close()

    await asyncio.to_thread(read_and_commit)
    committed = await asyncio.to_thread(committed_offsets, broker, namespace, topics, "g")
    assert committed == ends[INTERACTIONS.name] | ends[PEOPLE.name]
