"""Delivery of records that nobody waits for: handed over in groups, and counted when they fail."""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError

from slipstream.broker.client import ProducerClient
from slipstream.broker.delivery import Delivery, OutgoingRecord
from slipstream.broker.kafka import BrokerUnavailableError


class UnattendedDelivery:
    """Hands records to a producer's client without waiting, for several threads and event loops.

    The client's thread is woken once for a group. Beyond `max_bytes` without an answer, records
    fail at once, as they do while the broker has not told a topic's partitions.
    """

    def __init__(self, delivery: Delivery, max_bytes: int) -> None:
        self._delivery, self._max_bytes = delivery, max_bytes
        self._held_bytes, self._lock = 0, threading.Lock()
        # Records that did not reach the broker.
        self.failures = 0

    def hand_over(self, client: ProducerClient, records: Sequence[OutgoingRecord]) -> None:
        """Append records to the client's batches; each that can't be appended fails alone."""
        batches: dict[int, tuple[Any, list[int]]] = {}
        with self._delivery.appending(client) as append:
            for record in records:
                try:
                    if self._held_bytes >= self._max_bytes:
                        raise MessageSizeTooLargeError("too much waits for the broker's answer")
                    batch, size = append(record)
                    batches.setdefault(id(batch), (batch, []))[1].append(size)
                    with self._lock:
                        self._held_bytes += size
                # Whatever is wrong with one record, the others go out.
                except Exception as error:
                    self.failed(1, error)
        for batch, sizes in batches.values():
            batch.add_both(partial(self._settle, batch, len(sizes), sum(sizes)))

    def failed(self, records: int, error: Exception) -> None:
        """Count records that were lost to this error."""
        with self._lock:
            self.failures += records
        if isinstance(error, KafkaError | BrokerUnavailableError):
            self._delivery.failed(error)

    def _settle(self, batch: Any, records: int, size: int, _result: object) -> None:
        failure = self._delivery.answer([batch])
        with self._lock:
            self._held_bytes -= size
            if failure is not None:
                self.failures += records
