"""Ceilings: a bare kafka-python producer and consumer, and an empty FastAPI route.

The route is served under the services' server settings. `python -m bench.ceiling PORT` serves it
until it is stopped.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bench.load import answering
from bench.measurements import BenchmarkError
from slipstream.broker.kafka import connection, consumer_arguments, producer_arguments
from slipstream.broker.log_ends import log_ends
from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.server import serve
from slipstream.chassis.settings import HttpSettings, KafkaSettings, ServiceSettings
from slipstream.contracts.topics import INTERACTIONS, Topic
from slipstream_cli.local.processes import Child, free_port

_CONSUMER_TIMEOUT_S = 120.0


def create_app() -> FastAPI:
    """Build an app with one route, GET and POST /, that answers `{}`."""
    app = FastAPI()

    @app.get("/")
    @app.post("/")
    async def empty() -> dict[str, str]:
        return {}

    return app


@contextmanager
def running_empty_route() -> Iterator[str]:
    """Serve the route from a separate process for the block; yield its URL."""
    port = free_port()
    server = Child(
        "empty route",
        port,
        [sys.executable, "-m", "bench.ceiling", str(port)],
        answering("/"),
        grace_s=2.0,
        # The folder with this package, which is not installed.
        environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    server.start(timeout_s=30)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()


class RawMessage(NamedTuple):
    """A message's bytes on the topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def scratch_namespace(settings: KafkaSettings, namespace: str) -> str:
    """Make a topic of interactions for a ceiling, with as many partitions as the stack's own has.

    Returns its namespace.
    """
    scratch = f"{namespace}-bench"[:40]
    partitions = len(log_ends(settings, namespace, [INTERACTIONS])[INTERACTIONS.name])
    ensure_topics(settings, scratch, [replace(INTERACTIONS, partitions=partitions)])
    return scratch


def newest_messages(
    settings: KafkaSettings, namespace: str, topic: Topic, count: int
) -> list[RawMessage]:
    """Read about the last `count` messages of a topic, or all if there are fewer."""
    name = physical(namespace, topic)
    consumer = KafkaConsumer(
        **connection(settings), group_id=None, enable_auto_commit=False, metrics_enabled=False
    )
    partitions = [TopicPartition(name, at) for at in consumer.partitions_for_topic(name) or ()]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    starts = {partition: max(0, end - count // len(ends)) for partition, end in ends.items()}
    for partition, start in starts.items():
        consumer.seek(partition, start)
    expected = sum(ends[partition] - start for partition, start in starts.items())
    messages: list[RawMessage] = []
    deadline = time.monotonic() + 10
    while len(messages) < expected and time.monotonic() < deadline:
        for records in consumer.poll(500).values():
            messages += [RawMessage(it.key, it.value, list(it.headers)) for it in records]
    consumer.close(autocommit=False)
    return messages


def raw_producer_rate(
    settings: KafkaSettings,
    namespace: str,
    topic: Topic,
    messages: Sequence[RawMessage],
    seconds: float,
) -> float:
    """Measure the messages/s that one bare kafka-python producer sends with `acks=all`.

    It has the arguments that `Producer` gives it, sends 500 messages at a time, and leaves at most
    two thousand unacknowledged.

    Args:
        messages: Messages that are sent round and round.
        seconds: How long to send.
    """
    name = physical(namespace, topic)
    producer = KafkaProducer(**producer_arguments(settings, linger_ms=5))
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
            raise BenchmarkError("the broker did not acknowledge every message of the raw producer")
        return sent / took
    finally:
        producer.close(5)


def raw_consumer_rate(
    settings: KafkaSettings, namespace: str, topic: Topic, max_poll_records: int
) -> float:
    """Measure the messages/s that one bare kafka-python consumer reads, and drops.

    It reads the topic from its beginning to its end, with the arguments that `Consumer` gives it.
    """
    consumer = KafkaConsumer(**consumer_arguments(settings, None, max_poll_records))
    name = physical(namespace, topic)
    partitions = [TopicPartition(name, at) for at in consumer.partitions_for_topic(name) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    expected = sum(consumer.end_offsets(partitions).values())
    started = time.perf_counter()
    count = 0
    while count < expected:
        count += sum(map(len, consumer.poll(500).values()))
        if time.perf_counter() - started > _CONSUMER_TIMEOUT_S:
            raise BenchmarkError(f"the raw consumer read only {count} of {expected} messages")
    took = time.perf_counter() - started
    consumer.close(autocommit=False)
    return count / took


if __name__ == "__main__":
    serve(create_app(), ServiceSettings(http=HttpSettings(port=int(sys.argv[1]))), "ingestion")
