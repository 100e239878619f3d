"""kafka-python's producer and consumer with what they lack; the only module that uses the library's
private parts.

The producer gets a way in for many records at once and says whether it can go on. The consumer
always finishes a join that it began, and tells its place in the group. All of it leans on 3.0.12:
`tests/integration/test_broker_client.py` has a test for each private part, which fails when the
library changes.
"""

import contextlib
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import IllegalStateError, KafkaError, MessageSizeTooLargeError
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState
from kafka.record.memory_records import MemoryRecordsBuilder

from slipstream.broker.kafka import connection
from slipstream.chassis.settings import KafkaSettings

Headers = list[tuple[str, bytes]]

# With the hash remembered: in Python it costs as much as the rest of a send, and a visitor comes
# again.
_hash = lru_cache(65_536)(murmur2)
# What a record needs besides its key and its value, at most.
_OVERHEAD = 512


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The partition that every Kafka client takes for a key."""

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


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that every Kafka client takes for a key."""
    return int((_hash(key) & 0x7FFFFFFF) % partitions)


class Client(KafkaProducer):  # type: ignore[misc]
    """A producer whose records can be handed over without a future, a wake-up and a dozen checks
    for each.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        may_split = self._sender._can_split
        # A batch that the broker finds too large is split by its records' futures, which `append`
        # does without.
        self._sender._can_split = lambda batch, error: (
            bool(batch._record_futures) and may_split(batch, error)
        )

    @contextlib.contextmanager
    def appending(self) -> Iterator[None]:
        """Around calls of `append`; wakes the sender once, at the end."""
        self._accumulator._appends_in_progress.increment()
        try:
            yield
        finally:
            self._accumulator._appends_in_progress.decrement()
            self._sender.wakeup()

    def learn(self, topics: list[str]) -> None:
        """Ask for the partitions of these topics, all at once, and wait for the answer; a topic
        that is not there has none.
        """
        deadline = time.monotonic() + self.config["max_block_ms"] / 1000
        while (
            min(map(self.partitions_known, topics)) == 0 and time.monotonic() < deadline
        ):  # each one is asked for
            time.sleep(0.005)

    def partitions_known(self, topic: str) -> int:
        """Partitions of the topic by the newest metadata; 0 where that does not have it, which is
        then asked for.

        Never waits, as `send` does. A real broker tells only of the topics that it was asked about.
        """
        partitions = self._metadata.partitions_for_topic(topic)
        if not partitions:
            self._sender.add_topic(topic)
            self._metadata.request_update()  # which `add_topic` leaves out for a topic that was asked for before
        return len(partitions or ())

    def topic_id(self, topic: str) -> str:
        """The topic's id by the newest metadata; "" where that does not have it."""
        return str(self._metadata.topic_id(topic) or "")

    def append(self, place: TopicPartition, key: bytes, value: bytes, headers: Headers) -> Any:
        """Put a record behind the others of its partition; returns the library's future of the
        whole batch that it is in.

        That future succeeds with (offset, timestamp, why): the batch has failed where `why` is a
        function, which gives the error.
        """
        accumulator = self._accumulator
        if len(key) + len(value) + _OVERHEAD > self.config["max_request_size"]:
            raise MessageSizeTooLargeError(
                f"a record has {len(value)} bytes, and a request may have fewer"
            )
        with accumulator._tp_lock(place):
            if accumulator._closed:
                raise IllegalStateError("the producer is closed")
            batches = accumulator._batches[place]
            if batches and batches[-1].records.append(None, key, value, headers) is not None:
                return batches[-1].produce_future
            records = MemoryRecordsBuilder(
                2, self.config["compression_attrs"], self.config["batch_size"]
            )
            batch = ProducerBatch(place, records, now=time.monotonic())
            records.append(None, key, value, headers)
            batches.append(batch)
            accumulator._incomplete.add(batch)
            return batch.produce_future

    @property
    def recovering(self) -> bool:
        """It asks the broker for an id, or for a new epoch of its own; how that ends decides
        whether it is broken.
        """
        return self._transaction_manager._current_state in (
            TransactionState.INITIALIZING,
            TransactionState.BUMPING_PRODUCER_EPOCH,
        )

    @property
    def broken(self) -> bool:
        """It will not deliver anything any more.

        That is so after any failure which the library takes for fatal (of a fenced producer; of an
        id that the embedded broker has forgotten; but also of one record that the broker did not
        want), and when it has dropped its id because a batch that was being retried ran out of
        time: it never asks for another one (3.0.12).
        """
        manager = self._transaction_manager
        without_id = (
            manager._current_state == TransactionState.READY and not manager.has_producer_id()
        )
        return bool(
            self._closed or not self._sender.is_alive() or manager.has_fatal_error() or without_id
        )

    def abandon(self) -> None:
        """Fail what it still holds and end its thread; `close` waits for what can't be delivered."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()


class Membership(NamedTuple):
    """A consumer's place in its group: whether it has joined, and the seconds since the broker last
    confirmed it.
    """

    joined: bool
    silent_s: float


class ConsumerClient(KafkaConsumer):  # type: ignore[misc]
    """A consumer whose joins always end, and which tells its place in the group without asking the
    broker.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        coordinator = self._coordinator
        by_library = coordinator.need_rejoin
        # A join that outlives the poll which began it is only awaited by a later poll that finds a
        # rejoin needed. The leader of a group takes the newest metadata as its own while it joins,
        # after which none may be needed: nobody takes the result, the member stays without
        # heartbeats, and the broker evicts it for good
        # (docs/upstream/kafka-python-unfinished-join.md).
        coordinator.need_rejoin = lambda: coordinator._join_task is not None or by_library()

    @property
    def membership(self) -> Membership:
        """Its place in the group, as far as the client knows."""
        heartbeat = self._coordinator.heartbeat
        confirmed = max(heartbeat.last_receive, heartbeat.last_reset)
        return Membership(self._coordinator.stable(), time.monotonic() - confirmed)

    def positions(self) -> dict[TopicPartition, int | None]:
        """The next offset to read of each assigned partition; None where it is not known yet where
        reading begins.

        The library's `position` would ask the broker for those, and wait for the answer without
        limit.
        """
        # A rebalance on the library's thread may take partitions away meanwhile.
        states = dict(self._subscription.assignment)
        return {
            partition: state.position.offset if state.position else None
            for partition, state in states.items()
        }

    def forget_positions(self) -> None:
        """Let reading begin at the committed offsets when partitions are assigned next, as Java's
        client does.

        For `on_partitions_revoked`. The library keeps the position of a partition that it gets
        back, and so passes over records that were dropped when it was revoked.
        """
        self._subscription.assign_from_subscribed([])

    def committed_offsets(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int]:
        """The group's committed offsets, all in one request; partitions without one are left out.
        Raises `KafkaError`.
        """
        found = self._coordinator.fetch_committed_offsets(partitions, timeout_ms=timeout_ms)
        return {
            partition: offset.offset for partition, offset in found.items() if offset.offset >= 0
        }

    def topic_id(self, topic: str) -> str:
        """The topic's id by the newest metadata; "" where that does not have it."""
        return str(self._cluster.topic_id(topic) or "")

    def refresh_metadata(self, timeout_ms: int) -> None:
        """Ask for the metadata now, and wait for the answer. Raises `KafkaError`."""
        self._net.run(self._manager.wait_for, self._cluster.request_update(), timeout_ms)

    def connections(self) -> set[Any]:
        """Its present connections to brokers, each an object of its own."""
        return set(self._manager._conns.values())

    def ends(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int] | None:
        """The end offset of each partition as the broker says now; None when it does not."""
        try:
            ends = self.end_offsets(partitions, timeout_ms=timeout_ms)
        except (
            KafkaError,
            KeyError,
        ):  # KeyError: 3.0.12 raises it for a topic that a restarted broker does not have yet
            return None
        states = dict(self._subscription.assignment)
        # Of its newest batch of records the embedded broker counts only the first here; a fetch
        # tells the true end.
        return {
            partition: max(
                int(end), (states[partition].highwater or 0) if partition in states else 0
            )
            for partition, end in ends.items()
        }


class AdminClient(KafkaAdminClient):  # type: ignore[misc]
    """An admin client that leaves the operations which its user may perform undecoded.

    The library decodes them in each answer about groups. The embedded broker grants all 32 bits of
    the field, and 3.0.12 raises ValueError for those that Kafka has not assigned yet.
    """

    def _process_acl_operations(self, description: dict[str, Any]) -> dict[str, Any]:
        return description


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
