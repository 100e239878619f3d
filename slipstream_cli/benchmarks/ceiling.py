"""How fast the client library itself is here and now: what the benchmarks of ingestion and features
are measured against.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.partitioner import DefaultPartitioner

from slipstream.broker.arguments import producer_arguments
from slipstream.broker.kafka import connection
from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic

_CONSUMER_TIMEOUT_S = 120.0


class Bytes(NamedTuple):
    """A message as it lies on the topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def newest_messages(
    settings: KafkaSettings, namespace: str, topic: Topic, count: int
) -> list[Bytes]:
    """The last messages of a topic, about `count` of them where it has so many, spread over its
    partitions.
    """
    name = physical(namespace, topic)
    consumer = KafkaConsumer(
        **connection(settings), group_id=None, enable_auto_commit=False, metrics_enabled=False
    )
    partitions = [TopicPartition(name, number) for number in range(topic.partitions)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    starts = {partition: max(0, end - count // topic.partitions) for partition, end in ends.items()}
    for partition, start in starts.items():
        consumer.seek(partition, start)
    expected = sum(ends[partition] - start for partition, start in starts.items())
    found: list[Bytes] = []
    deadline = time.monotonic() + 10
    while len(found) < expected and time.monotonic() < deadline:
        for records in consumer.poll(500).values():
            found += [Bytes(record.key, record.value, list(record.headers)) for record in records]
    consumer.close(autocommit=False)
    return found


def raw_producer_rate(
    settings: KafkaSettings, namespace: str, topic: Topic, messages: Sequence[Bytes], seconds: float
) -> float:
    """Messages a second that one kafka-python producer sends, all acknowledged (`acks=all`), with
    the arguments that `Producer` gives it, doing nothing else: 500 at a time, at most two thousand
    unacknowledged.
    """
    name = physical(namespace, topic)
    producer = KafkaProducer(
        **(producer_arguments(settings, linger_ms=5) | {"partitioner": DefaultPartitioner()})
    )
    try:
        producer.partitions_for(name)
        started = time.perf_counter()
        sent = 0
        futures = []
        while time.perf_counter() - started < seconds:
            for key, value, headers in messages[sent % len(messages) :][:500]:
                futures.append(producer.send(name, value, key, headers))
                sent += 1
            if len(futures) >= 2_000:
                futures[-2_000].get(10)
        producer.flush(30)
        took = time.perf_counter() - started
        if not all(future.succeeded() for future in futures):
            raise RuntimeError("the broker did not acknowledge every message of the raw producer")
        return sent / took
    finally:
        producer.close(5)


def raw_consumer_rate(
    settings: KafkaSettings, namespace: str, topic: Topic, max_poll_records: int
) -> float:
    """Messages a second that one kafka-python consumer reads of a topic from its beginning to its
    end, with the arguments that `Consumer` gives it, doing nothing else with them.
    """
    consumer = KafkaConsumer(
        **connection(settings),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        max_poll_records=max_poll_records,
        metrics_enabled=False,
    )
    partitions = [
        TopicPartition(physical(namespace, topic), number) for number in range(topic.partitions)
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    expected = sum(consumer.end_offsets(partitions).values())
    started = time.perf_counter()
    found = 0
    while found < expected:
        found += sum(map(len, consumer.poll(500).values()))
        if time.perf_counter() - started > _CONSUMER_TIMEOUT_S:
            raise RuntimeError(f"the raw consumer read only {found} of {expected} messages")
    took = time.perf_counter() - started
    consumer.close(autocommit=False)
    return found / took
