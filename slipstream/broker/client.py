"""kafka-python's producer with two things that it lacks: a way in for many records at once, and a word on whether it can go on.

Both lean on the library's inner parts as they are in 3.0.12. `tests/integration/test_broker.py` compares what the way in puts on
a topic with what `send` does, and provokes the states that `broken` tells.
"""

import contextlib
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import IllegalStateError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState
from kafka.record.memory_records import MemoryRecordsBuilder

from slipstream.broker.kafka import connection
from slipstream.chassis.settings import KafkaSettings

Headers = list[tuple[str, bytes]]

#: With the hash remembered: in Python it costs as much as the rest of a send, and a visitor comes again.
_hash = lru_cache(65_536)(murmur2)
#: What a record needs besides its key and its value, at most.
_OVERHEAD = 512


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The partition that every Kafka client takes for a key."""

    def partition(
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: bytes | None, cluster: Any
    ) -> int:
        partitions = cluster.partitions_for_topic(topic)
        if serialized_key is None or not partitions:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        return partition_of(serialized_key, len(partitions))


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that every Kafka client takes for a key."""
    return int((_hash(key) & 0x7FFFFFFF) % partitions)


class Client(KafkaProducer):  # type: ignore[misc]
    """A producer whose records can be handed over without a future, a wake-up and a dozen checks for each."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        may_split = self._sender._can_split
        # A batch that the broker finds too large is split by its records' futures, which `append` does without.
        self._sender._can_split = lambda batch, error: bool(batch._record_futures) and may_split(batch, error)

    @contextlib.contextmanager
    def appending(self) -> Iterator[None]:
        """Around calls of `append`; wakes the sender once, at the end."""
        self._accumulator._appends_in_progress.increment()
        try:
            yield
        finally:
            self._accumulator._appends_in_progress.decrement()
            self._sender.wakeup()

    def partitions_known(self, topic: str) -> int:
        """How many partitions the topic has; `KafkaTimeoutError` where that is not known now. Never waits, as `send` does."""
        partitions = self._metadata.partitions_for_topic(topic)
        if not partitions:
            self._sender.add_topic(topic)
            raise KafkaTimeoutError(f"the partitions of {topic} are not known yet")
        return len(partitions)

    def topic_id(self, topic: str) -> str:
        """The topic's id by the newest metadata; "" where that does not have it."""
        return str(self._metadata.topic_id(topic) or "")

    def append(self, place: TopicPartition, key: bytes, value: bytes, headers: Headers) -> Any:
        """Put a record behind the others of its partition; returns the library's future of the whole batch that it is in.

        That future succeeds with (offset, timestamp, why): the batch has failed where `why` is a function, which gives the error.
        """
        accumulator = self._accumulator
        if len(key) + len(value) + _OVERHEAD > self.config["max_request_size"]:
            raise MessageSizeTooLargeError(f"a record has {len(value)} bytes, and a request may have fewer")
        with accumulator._tp_lock(place):
            if accumulator._closed:
                raise IllegalStateError("the producer is closed")
            batches = accumulator._batches[place]
            if batches and batches[-1].records.append(None, key, value, headers) is not None:
                return batches[-1].produce_future
            records = MemoryRecordsBuilder(2, self.config["compression_attrs"], self.config["batch_size"])
            batch = ProducerBatch(place, records, now=time.monotonic())
            records.append(None, key, value, headers)
            batches.append(batch)
            accumulator._incomplete.add(batch)
            return batch.produce_future

    @property
    def recovering(self) -> bool:
        """It asks the broker for an id, or for a new epoch of its own; how that ends decides whether it is broken."""
        return self._transaction_manager._current_state in (
            TransactionState.INITIALIZING,
            TransactionState.BUMPING_PRODUCER_EPOCH,
        )

    @property
    def broken(self) -> bool:
        """It will not deliver anything any more.

        That is so after any failure which the library takes for fatal (of a fenced producer; of an id that the embedded broker
        has forgotten; but also of one record that the broker did not want), and when it has dropped its id because a batch that
        was being retried ran out of time: it never asks for another one (3.0.12).
        """
        manager = self._transaction_manager
        without_id = manager._current_state == TransactionState.READY and not manager.has_producer_id()
        return bool(self._closed or not self._sender.is_alive() or manager.has_fatal_error() or without_id)

    def abandon(self) -> None:
        """Fail what it still holds and end its thread; `close` waits for what can't be delivered."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()


def client_arguments(settings: KafkaSettings, linger_ms: int = 1) -> dict[str, Any]:
    """What the client library is asked for."""
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
