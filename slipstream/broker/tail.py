"""The tail of topics: their newest records, read outside every group, and of a flood a share.

Whoever watches wants to see what passes now, and is not to slow down anybody. So a tail begins at
the ends, commits nothing, and takes so many records a second at most. When more come, it passes
over what has piled up meanwhile, without fetching it, and tells how many records have passed.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from slipstream.broker.consumer import TopicPartitions
from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.kafka import BrokerUnavailableError, consumer_arguments, translated
from slipstream.broker.records import request_id_of
from slipstream.broker.standing import ANSWER_MS
from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import Topic

# Seconds after which records of a flood are taken again: each time as many as fit into the rate.
_TURN_S: Final = 0.25
# Bytes that a fetch brings of a partition, and of all: what is passed over is not to be fetched.
_PARTITION_BYTES: Final = 131_072
_FETCH_BYTES: Final = 1_048_576
# Age of a record (ms) from which on it was there before reading began: clocks may differ by this.
# The embedded broker tells too low an end until a client has read there, so such records come.
_PAST_MS: Final = 60_000


class Budget:
    """Records that may be taken now: `per_s` a second, at most those of one turn at once."""

    def __init__(self, per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * _TURN_S)
        self._left, self._at = self._most, clock()

    def left(self) -> int:
        """The records that may be taken now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        return int(self._left)

    def take(self, records: int) -> None:
        """Note that so many were taken."""
        self._left -= records


class TailRecord(NamedTuple):
    """A record as it stands on a topic; `at` is its time (ms), `value` None in a tombstone."""

    topic: Topic
    partition: int
    offset: int
    at: int
    request_id: str
    value: bytes | None


class Tail:
    """Reads topics from their ends on. Not thread-safe."""

    def __init__(
        self,
        settings: KafkaSettings,
        namespace: str,
        topics: Sequence[Topic],
        per_s: int,
    ) -> None:
        """Connects, and stands at the present ends. Raises `BrokerUnavailableError`. It reads
        `per_s` records a second at most.
        """
        self._settings, self._budget = settings, Budget(per_s)
        self._by_name = {physical(namespace, topic): topic for topic in topics}
        self._since = now_ms() - _PAST_MS
        # The offset behind the last record that was seen, or where reading began.
        self._next: dict[TopicPartition, int] = {}
        with translated(settings, None):
            self._client = ConsumerClient(
                max_poll_bytes=settings.max_poll_bytes,
                **consumer_arguments(settings, None, self._budget.left())
                | {
                    "auto_offset_reset": "latest",
                    "fetch_max_bytes": _FETCH_BYTES,
                    "max_partition_fetch_bytes": _PARTITION_BYTES,
                },
            )
            try:
                self._client.learn(list(self._by_name), ANSWER_MS)
                partitions = TopicPartitions(self._client, self._by_name).all()
                self._client.assign(partitions)
                self._go_to_ends()
            except KafkaError:
                self.close()
                raise

    def read(self, timeout_s: float) -> tuple[list[TailRecord], int]:
        """The next records, none after `timeout_s`; and how many have passed since the last call,
        with those that are left out. Raises `BrokerUnavailableError`.
        """
        room = self._budget.left()
        if not room:
            time.sleep(_TURN_S)
            with translated(self._settings, None):
                passed = self._go_to_ends()
            return [], passed
        with translated(self._settings, None):
            polled = self._client.poll(timeout_ms=timeout_s * 1000, max_records=room)
        taken, passed = list[TailRecord](), 0
        for partition, records in polled.items():
            topic = self._by_name[partition.topic]
            taken += [
                TailRecord(
                    topic,
                    partition.partition,
                    each.offset,
                    each.timestamp,
                    request_id_of(each.headers),
                    each.value,
                )
                for each in records
                if each.timestamp >= self._since
            ]
            passed += self._pass_to(partition, records[-1].offset + 1, len(records))
            passed -= sum(each.timestamp < self._since for each in records)
        self._budget.take(len(taken))
        return taken, passed

    def close(self) -> None:
        """Close the connection."""
        self._client.close(autocommit=False, timeout_ms=ANSWER_MS)

    def _go_to_ends(self) -> int:
        """Go on at the present ends; returns how many records that passes over."""
        ends = self._client.ends(list(self._client.assignment()), ANSWER_MS)
        if ends is None:
            raise BrokerUnavailableError(
                f"the broker at {self._settings.bootstrap_servers} does not tell the ends of topics"
            )
        passed = 0
        for partition, end in ends.items():
            # Not back to an end that is too low.
            if end >= self._next.get(partition, 0):
                self._client.seek(partition, end)
                passed += self._pass_to(partition, end, 0)
        return passed

    def _pass_to(self, partition: TopicPartition, offset: int, records: int) -> int:
        """Note where reading goes on; returns how many records lie before it. Of a topic that was
        recreated they are the `records` that were read.
        """
        before = self._next.get(partition, offset - records)
        self._next[partition] = offset
        return offset - before if offset >= before else records
