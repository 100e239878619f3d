"""Ends of topics, and the offsets that a group has committed, asked without reading a record."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from kafka import TopicPartition
from kafka.errors import KafkaError

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.kafka import BrokerUnavailableError, consumer_arguments
from slipstream.broker.standing import ANSWER_MS
from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import source_name
from slipstream.contracts.topics import Topic

# Longest wait for records behind the ends that the embedded broker tells, and their number.
_FETCH_MS: Final = 100
_LOOKING_S: Final = 0.5
_RECORDS: Final = 2_000


def log_ends(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic]
) -> dict[str, dict[str, int]]:
    """The next offset of every source, by topic and by the source's name.

    A record that was acknowledged before this call stands before these ends. Raises
    `BrokerUnavailableError`.
    """
    with _client(settings, namespace, topics) as (client, partitions):
        client.assign(list(partitions))
        first = client.ends(list(partitions), ANSWER_MS)
        if first is not None:
            for partition, end in first.items():
                client.seek(partition, end)
            # The embedded broker counts only the first record of its newest batch until a client
            # fetches there.
            until = time.monotonic() + _LOOKING_S
            while client.poll(_FETCH_MS) and time.monotonic() < until:
                pass
        ends = client.ends(list(partitions), ANSWER_MS)
        if first is None or ends is None:
            raise BrokerUnavailableError(
                f"the broker at {settings.bootstrap_servers} does not tell the ends of topics"
            )
        return _by_source(client, partitions, ends)


def log_beginnings(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic]
) -> dict[str, dict[str, int]]:
    """The first offset that every source still has, by topic and by the source's name.

    Raises `BrokerUnavailableError`.
    """
    with _client(settings, namespace, topics) as (client, partitions):
        beginnings = client.beginning_offsets(list(partitions), timeout_ms=ANSWER_MS)
        return _by_source(client, partitions, beginnings)


def committed_offsets(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic], group: str
) -> dict[str, int]:
    """The offset that a group has committed, by source, or where its records begin now.

    What the topic has no more counts as read. Raises `BrokerUnavailableError`.
    """
    with _client(settings, namespace, topics, group) as (client, partitions):
        committed = client.committed_offsets(list(partitions), ANSWER_MS)
        beginnings = client.beginning_offsets(list(partitions), timeout_ms=ANSWER_MS)
        full = {
            partition: max(
                committed[partition].offset if partition in committed else 0, beginnings[partition]
            )
            for partition in partitions
        }
        by_topic = _by_source(client, partitions, full)
        return {source: offset for ends in by_topic.values() for source, offset in ends.items()}


@contextmanager
def _client(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic], group: str | None = None
) -> Iterator[tuple[ConsumerClient, Mapping[TopicPartition, Topic]]]:
    """A client for the block, outside its group, and the partitions of these topics."""
    by_name = {physical(namespace, topic): topic for topic in topics}
    name = f"{namespace}.{group}" if group else None
    client = None
    try:
        client = ConsumerClient(
            max_poll_bytes=settings.max_poll_bytes, **consumer_arguments(settings, name, _RECORDS)
        )
        partitions = {
            TopicPartition(topic_name, number): topic
            for topic_name, topic in by_name.items()
            for number in sorted(client.partitions_for_topic(topic_name) or ())
        }
        if {topic.name for topic in partitions.values()} != {topic.name for topic in topics}:
            raise BrokerUnavailableError(
                f"the broker at {settings.bootstrap_servers} does not tell all partitions"
            )
        yield client, partitions
    except (KafkaError, KeyError) as error:
        raise BrokerUnavailableError(
            f"no Kafka broker answers at {settings.bootstrap_servers}: {error}"
        ) from error
    finally:
        if client is not None:
            client.close(autocommit=False, timeout_ms=ANSWER_MS)


def _by_source(
    client: ConsumerClient,
    partitions: Mapping[TopicPartition, Topic],
    offsets: Mapping[TopicPartition, int],
) -> dict[str, dict[str, int]]:
    named: dict[str, dict[str, int]] = {}
    for partition, topic in partitions.items():
        source = source_name(client.topic_id(partition.topic), partition.partition)
        named.setdefault(topic.name, {})[source] = int(offsets[partition])
    return named
