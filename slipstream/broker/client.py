"""kafka-python's producer and admin client, completed.

Only this module and `consumer_client` use the library's private parts. The producer takes many
records at once, encodes them in the format of Kafka's protocol
(https://kafka.apache.org/documentation/#record), and says whether it can go on. The admin client
reads groups of a broker that grants unknown operations.

All of it relies on kafka-python 3.0.12, and pyproject.toml pins 3.0.x:
`tests/integration/test_broker_private_parts.py` checks each private part by name and shape, and
fails when the library changes.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from kafka import (
    KafkaAdminClient,
    KafkaProducer,
    TopicPartition,
)
from kafka.errors import (
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
)
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import encode_varint

from slipstream.broker.kafka import BrokerUnavailableError, connection
from slipstream.chassis.settings import KafkaSettings


def _varint(number: int) -> bytes:
    if 0 <= number < len(_SMALL):
        return _SMALL[number]
    encoded = bytearray()
    encode_varint(number, encoded.append)
    return bytes(encoded)


_SMALL: Sequence[bytes] = ()
_SMALL = [_varint(number) for number in range(8_192)]
_ATTRIBUTES: Final = b"\0"
_NO_VALUE: Final = _varint(-1)


def encoded_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The headers as they stand at the end of a record."""
    parts = [_varint(len(headers))]
    for name, value in headers:
        parts += (_name(name), _varint(len(value)), value)
    return b"".join(parts)


@lru_cache
def _name(name: str) -> bytes:
    encoded = name.encode()
    return _varint(len(encoded)) + encoded


class RecordBatchBuilder(DefaultRecordBatchBuilder):  # type: ignore[misc]
    """kafka-python's builder of a batch, which joins a record's parts instead of writing bytes."""

    _first_timestamp: int | None
    _max_timestamp: int | None

    def append(
        self, offset: int, timestamp: int | None, key: bytes, value: bytes | None, headers: bytes
    ) -> int | None:
        """Write a record at the batch's end; None where the batch has no room for it.

        Args:
            offset: The record's place in the batch.
            timestamp: Its time in ms; None for now.
            value: The value; None for a tombstone.
            headers: The headers, encoded.

        Returns:
            The bytes that it takes.
        """
        if timestamp is None:
            timestamp = int(time.time() * 1000)
        first = timestamp if self._first_timestamp is None else self._first_timestamp
        record = b"".join(
            (
                _ATTRIBUTES,
                _varint(timestamp - first),
                _varint(offset),
                _varint(len(key)),
                key,
                _NO_VALUE if value is None else _varint(len(value)),
                value or b"",
                headers,
            )
        )
        prefix, buffer = _varint(len(record)), self._buffer
        size = len(prefix) + len(record)
        if self._num_records and size + len(buffer) > self._batch_size:
            return None
        self._first_timestamp = first
        self._max_timestamp = max(timestamp, self._max_timestamp or 0)
        self._num_records += 1
        self._last_offset = offset
        buffer += prefix
        buffer += record
        return size


Value = bytes | None

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
            # `add_topic` alone does not request a topic's metadata a second time.
            self._metadata.request_update()
        return len(partitions or ())

    def topic_id(self, topic: str) -> str:
        """The topic's id in the newest metadata; "" where that does not have it."""
        return id_text(self._metadata.topic_id(topic))

    def append(self, place: TopicPartition, key: bytes, value: Value, headers: bytes) -> Any:
        """Put a record, with its encoded headers, behind the others of its partition.

        Returns the library's future of the whole batch that the record is in. It succeeds with
        (offset, timestamp, failure): the batch has failed where `failure` is a function, which
        gives the error.
        """
        accumulator = self._accumulator
        size = len(value or b"")
        if len(key) + size + _OVERHEAD > self.config["max_request_size"]:
            raise MessageSizeTooLargeError(f"a record has {size} bytes; a request may have fewer")
        with accumulator._tp_lock(place):
            if accumulator._closed:
                raise IllegalStateError("the producer is closed")
            batches = accumulator._batches[place]
            if batches and batches[-1].records.append(None, key, value, headers) is not None:
                return batches[-1].produce_future
            compression, batch_size = self.config["compression_attrs"], self.config["batch_size"]
            records = MemoryRecordsBuilder(2, compression, batch_size)
            records._builder = RecordBatchBuilder(2, compression, False, -1, -1, -1, batch_size)
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


@contextmanager
def admin_session(settings: KafkaSettings, failed: str) -> Iterator[AdminClient]:
    """An admin client that is closed at the end of the block.

    Raises `BrokerUnavailableError` for Kafka's errors. `failed` begins its text: the question or
    change that failed.
    """
    try:
        admin = AdminClient(**connection(settings))
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"no Kafka broker answers at {settings.bootstrap_servers}: {error}"
        ) from error
    try:
        yield admin
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"{failed} at {settings.bootstrap_servers}: {error}"
        ) from error
    finally:
        admin.close()
