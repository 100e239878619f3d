"""The arguments that kafka-python's producer and consumer are made with.

Among them is the partition of a key: as every Kafka client computes it, but of the part before a
separator.
"""

from functools import lru_cache
from typing import Any

from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2

from slipstream.broker.kafka import connection
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.item_patches import KEY_SEPARATOR

_SEPARATOR = KEY_SEPARATOR.encode()
# A visitor's key comes again and again, and in Python its hash costs as much as the rest of a send.
_hash = lru_cache(65_536)(murmur2)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, among `partitions` of them.

    An item's patches have keys of their own, and follow one another in the item's partition.
    """
    return int((_hash(key.partition(_SEPARATOR)[0]) & 0x7FFFFFFF) % partitions)


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """kafka-python's partitioner with the hashes of recent keys remembered."""

    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: bytes | None,
        cluster: Any,
    ) -> int:
        partitions = cluster.partitions_for_topic(topic)
        if serialized_key is None or not partitions:
            return int(
                super().partition(topic, key, serialized_key, value, serialized_value, cluster)
            )
        return partition_of(serialized_key, len(partitions))


def producer_arguments(settings: KafkaSettings, linger_ms: int = 1) -> dict[str, Any]:
    """Arguments of a producer that every in-sync replica acknowledges.

    Args:
        settings: Where the broker is, and how long a delivery may take.
        linger_ms: Milliseconds for which a record may wait for others of its batch.
    """
    return {
        **connection(settings),
        "acks": "all",
        "linger_ms": linger_ms,
        "batch_size": 131_072,
        "compression_type": "lz4",
        "max_block_ms": 2_000,
        # A topic made by accident would have the broker's default number of partitions.
        "allow_auto_create_topics": False,
        "request_timeout_ms": min(5_000, settings.delivery_timeout_ms - linger_ms - 1),
        "delivery_timeout_ms": settings.delivery_timeout_ms,
        "metrics_enabled": False,
        "partitioner": KeyPartitioner(),
    }


def consumer_arguments(
    settings: KafkaSettings, group: str | None, max_poll_records: int
) -> dict[str, Any]:
    """Arguments of a consumer that commits only on request.

    Args:
        settings: Where the broker is, and the times of a group.
        group: The group's name on the broker; None for a consumer that reads alone.
        max_poll_records: Records that one poll returns at most.
    """
    return {
        **connection(settings),
        "group_id": group,
        "group_instance_id": (settings.instance_id or None) if group else None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": settings.fetch_max_wait_ms,
        "max_poll_records": max_poll_records,
        # What is fetched ahead of the polls, from each broker.
        "fetch_max_bytes": 2 * settings.max_poll_bytes,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": _heartbeat_ms(settings.session_timeout_ms),
        # A consumer that looked while a restarted broker had no topics yet must not wait for
        # minutes to look again.
        "metadata_max_age_ms": 5_000,
        # A topic made by accident would have the broker's default number of partitions.
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def _heartbeat_ms(session_ms: int) -> int:
    """A tenth of the session; of a short one up to a quarter, since a heartbeat costs the same."""
    return max(session_ms // 10, min(1_000, session_ms // 4))
