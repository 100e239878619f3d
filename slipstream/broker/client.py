"""kafka-python's clients, completed: the only module that uses the library's private parts.

The producer takes many records at once and says whether it can go on. The consumer finishes every
join that it began, and reports its membership. The admin client reads groups of a broker that
grants unknown operations. All of it relies on kafka-python 3.0.12, and pyproject.toml pins 3.0.x:
`tests/integration/test_broker_private_parts.py` checks each private part by name and shape, and
fails when the library changes.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    TopicPartition,
)
from kafka.errors import IllegalStateError, KafkaError, MessageSizeTooLargeError
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState
from kafka.record.memory_records import MemoryRecordsBuilder

from slipstream.broker.poll_bytes import bounded

Headers = list[tuple[str, bytes]]

# Bytes that a record needs besides its key and its value, at most.
_OVERHEAD = 512


class ProducerClient(KafkaProducer):  # type: ignore[misc]
    """A producer that takes records without a future, a wake-up and a dozen checks for each."""

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
        """Surround calls of `append`; the sender is woken once, at the end."""
        self._accumulator._appends_in_progress.increment()
        try:
            yield
        finally:
            self._accumulator._appends_in_progress.decrement()
            self._sender.wakeup()

    def learn(self, topics: list[str]) -> None:
        """Ask for the partitions of these topics, and wait until all are known, or for
        `max_block_ms`. A topic that does not exist stays without partitions.
        """
        deadline = time.monotonic() + self.config["max_block_ms"] / 1000
        # `min` asks for every topic in each round, where `all` would stop at the first unknown one.
        while min(map(self.partitions_known, topics)) == 0 and time.monotonic() < deadline:
            time.sleep(0.005)

    def partitions_known(self, topic: str) -> int:
        """Number of the topic's partitions in the newest metadata. Where that lacks the topic, asks
        for it and returns 0.

        Never waits, as `send` does. A real broker sends only topics that it was asked about.
        """
        partitions = self._metadata.partitions_for_topic(topic)
        if not partitions:
            self._sender.add_topic(topic)
            # `add_topic` alone does not ask again for a topic that was asked for before.
            self._metadata.request_update()
        return len(partitions or ())

    def topic_id(self, topic: str) -> str:
        """The topic's id in the newest metadata; "" where that does not have it."""
        return id_text(self._metadata.topic_id(topic))

    def append(self, place: TopicPartition, key: bytes, value: bytes, headers: Headers) -> Any:
        """Put a record behind the others of its partition.

        Returns the library's future of the whole batch that the record is in. It succeeds with
        (offset, timestamp, failure): the batch has failed where `failure` is a function, which
        gives the error.
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
        """It is asking the broker for a producer id or a new epoch. The outcome decides whether it
        is `broken`.
        """
        return self._transaction_manager._current_state in (
            TransactionState.INITIALIZING,
            TransactionState.BUMPING_PRODUCER_EPOCH,
        )

    @property
    def broken(self) -> bool:
        """It will deliver nothing any more.

        The library takes some failures for fatal: of a fenced producer, of an id that the embedded
        broker has forgotten, but also of one record that the broker refused. And when a batch that
        was being retried runs out of time, it drops its id and never asks for another (3.0.12).
        """
        manager = self._transaction_manager
        without_id = (
            manager._current_state == TransactionState.READY and not manager.has_producer_id()
        )
        return bool(
            self._closed or not self._sender.is_alive() or manager.has_fatal_error() or without_id
        )

    def abandon(self) -> None:
        """Fail the records that it still holds, and end its thread. `close` would wait for them."""
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
    """A consumer whose joins always end and count, and which reports its place in the group without
    asking the broker.
    """

    def __init__(self, *, max_poll_bytes: int = 8_388_608, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._fetcher._append = bounded(self._fetcher._append, max_poll_bytes)
        coordinator = self._coordinator
        by_library = coordinator.need_rejoin
        # A join that outlives the poll which began it is only awaited by a later poll that finds a
        # rejoin needed. The leader of a group takes the newest metadata as its own while it joins,
        # after which none may be needed: nobody takes the result, the member stays without
        # heartbeats, and the broker evicts it for good
        # (docs/upstream/kafka-python-unfinished-join.md).
        coordinator.need_rejoin = lambda: coordinator._join_task is not None or by_library()
        join_group = coordinator.join_group_async

        async def join(timeout_ms: float | None = None) -> bool:
            # A join that ends between two polls has its result thrown away: the next poll finds
            # the task done, and begins another join. Where polls alternate with questions that
            # the broker answers after the join, on the same connection, none ever counts
            # (docs/upstream/kafka-python-unfinished-join.md).
            if (ended := coordinator._join_task) is not None and ended.is_done:
                coordinator._join_task = self._manager.call_soon(_result, ended)
            return bool(await join_group(timeout_ms))

        coordinator.join_group_async = join

    @property
    def membership(self) -> Membership:
        """Its place in the group, as far as the client knows."""
        heartbeat = self._coordinator.heartbeat
        confirmed = max(heartbeat.last_receive, heartbeat.last_reset)
        return Membership(self._coordinator.stable(), time.monotonic() - confirmed)

    def positions(self) -> dict[TopicPartition, int | None]:
        """The next offset to read of each assigned partition; None until it is known where reading
        begins.

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
        committed = self._coordinator.fetch_committed_offsets(partitions, timeout_ms=timeout_ms)
        return {
            partition: offset.offset
            for partition, offset in committed.items()
            if offset.offset >= 0
        }

    def topic_id(self, topic: str) -> str:
        """The topic's id in the newest metadata; "" where that does not have it."""
        return id_text(self._cluster.topic_id(topic))

    def partitions_known(self, topic: str) -> int:
        """Number of the topic's partitions in the newest metadata; 0 where that lacks the topic."""
        return len(self._cluster.partitions_for_topic(topic) or ())

    def learn(self, topics: list[str], timeout_ms: int) -> None:
        """Ask for the metadata of these topics, and wait for the answer. Raises `KafkaError`."""
        self._cluster.set_topics(topics)
        self.refresh_metadata(timeout_ms)

    def refresh_metadata(self, timeout_ms: int) -> None:
        """Ask for the metadata now, and wait for the answer. Raises `KafkaError`."""
        self._net.run(self._manager.wait_for, self._cluster.request_update(), timeout_ms)

    def connections(self) -> set[Any]:
        """Its present connections to brokers; a connection that was made anew is another object."""
        return set(self._manager._conns.values())

    def ends(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int] | None:
        """The present end offset of each partition; None when the broker does not answer."""
        try:
            ends = self.end_offsets(partitions, timeout_ms=timeout_ms)
        # 3.0.12 raises KeyError for a topic that a restarted broker does not have yet.
        except (KafkaError, KeyError):
            return None
        states = dict(self._subscription.assignment)
        # Of its newest batch of records the embedded broker counts only the first here; a fetch
        # brings the true end.
        return {
            partition: max(
                int(end), (states[partition].highwater or 0) if partition in states else 0
            )
            for partition, end in ends.items()
        }


async def _result(ended: Any) -> Any:
    """The result of a future, as that of a task which has yet to run."""
    return await ended


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Calls back when partitions are assigned, and when they are revoked or lost."""

    def __init__(self, assigned: Callable[[], None], revoked: Callable[[], None]) -> None:
        self._assigned, self._revoked = assigned, revoked

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self._assigned()

    def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        self._revoked()

    def on_partitions_lost(self, lost: Any) -> None:  # noqa: ARG002
        self._revoked()


class AdminClient(KafkaAdminClient):  # type: ignore[misc]
    """An admin client that leaves the operations which its user may perform undecoded.

    The library decodes them in each answer about groups. The embedded broker grants all 32 bits of
    the field, and 3.0.12 raises ValueError for those that Kafka has not assigned yet.
    """

    def _process_acl_operations(self, description: dict[str, Any]) -> dict[str, Any]:
        return description


def id_text(topic_id: uuid.UUID | None) -> str:
    """A topic's id as text; "" for none. An answer that lacks the topic has an id of zeros."""
    return str(topic_id) if topic_id is not None and topic_id.int else ""
