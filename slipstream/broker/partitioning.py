"""The partition of a key, as every Kafka client computes it for the part before a separator."""

from functools import lru_cache
from typing import Any

from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2

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
