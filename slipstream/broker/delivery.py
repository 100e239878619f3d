"""Delivery of records: those of several callers go to the client at once, and each gets its answer.

Records that no caller waits for are handed over in groups, and counted when they fail.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from slipstream.broker.client import ProducerClient, encoded_headers
from slipstream.broker.kafka import (
    BrokerUnavailableError,
    NotAcknowledgedError,
    RecordRefusedError,
    partition_of,
)
from slipstream.broker.records import encoded, headers_of
from slipstream.contracts.events import NewInteraction, Record
from slipstream.contracts.topics import Topic

# Failures that say something of one record, and nothing of the connection.
OF_THE_RECORD: Final = (InvalidTopicError, MessageSizeTooLargeError, RecordListTooLargeError)
# Without an answer for this long, the broker is asked whether it is there at all.
_DOUBT_S: Final = 1.0
_ASK_AGAIN_S: Final = 0.02


class OutgoingRecord(NamedTuple):
    """A record to be sent. Its key decides the partition, and so the order; a record that is
    encoded already is sent as it is. None is a tombstone: a compacted topic drops the key.
    """

    topic: Topic
    key: str
    record: Record | NewInteraction | bytes | None
    request_id: str = ""


# The failure of one caller's records, None where all were acknowledged: a `BrokerUnavailableError`,
# or the error of a record that can't be encoded.
Failure = Exception | None
Append = Callable[[OutgoingRecord], tuple[Any, int]]


class Delivery:
    """Hands records to a producer's client and waits for the broker's acknowledgement.

    The client gets the records of several callers in one go: each that it gets alone wakes its
    thread, which costs more than the record. The last answer of all wakes the event loop, once.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        timeout_s: float,
        *,
        max_bytes: int,
        doubt: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Args:
        max_bytes: Bytes of records without an answer, beyond which a caller's are refused.
        doubt: Called when an answer is late, or partitions are unknown.
        failed: Called with each failure of the client or the broker.
        """
        self._names, self._timeout_s, self._max_bytes = names, timeout_s, max_bytes
        self._held_bytes = 0
        self._doubt, self.failed = doubt, failed
        self._places: dict[tuple[str, int], TopicPartition] = {}

    async def deliver(
        self, client: ProducerClient, lists: Sequence[Sequence[OutgoingRecord]]
    ) -> list[Failure]:
        """Send several callers' records; returns the failure of each caller, in the order given.

        Records of topics with unknown partitions wait for them, others don't.
        """
        topics = {record.topic.name for records in lists for record in records}
        unknown = {topic for topic in topics if not self._knows(client, topic)}
        if not unknown:
            return await self._hand_over(client, lists)
        self._doubt()
        early = [
            place
            for place, records in enumerate(lists)
            if all(record.topic.name not in unknown for record in records)
        ]
        late = [place for place in range(len(lists)) if place not in early]
        outcomes = await asyncio.gather(
            self._hand_over(client, [lists[place] for place in early]),
            self._hand_over_when_known(client, [lists[place] for place in late], unknown),
        )
        failures = dict(zip((*early, *late), (*outcomes[0], *outcomes[1]), strict=True))
        return [failures[place] for place in range(len(lists))]

    async def _hand_over_when_known(
        self,
        client: ProducerClient,
        lists: Sequence[Sequence[OutgoingRecord]],
        topics: Collection[str],
    ) -> list[Failure]:
        """Hand records over once the partitions of these topics are known; fail all of them when
        they are not in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        while not all(self._knows(client, topic) for topic in topics):
            if loop.time() > deadline:
                missing = BrokerUnavailableError(
                    f"the broker does not tell the partitions of {', '.join(sorted(topics))}"
                )
                return [missing] * len(lists)
            await asyncio.sleep(_ASK_AGAIN_S)
        return await self._hand_over(client, lists)

    async def _hand_over(
        self, client: ProducerClient, lists: Sequence[Sequence[OutgoingRecord]]
    ) -> list[Failure]:
        """Hand records over and wait until the broker has answered for all, or time is up."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Failure]] = loop.create_future()
        failures: list[Failure] = [None] * len(lists)
        handed: list[dict[int, Any]] = [{} for _ in lists]
        before = self._held_bytes
        with self.appending(client) as append:
            for place, records in enumerate(lists):
                if self._held_bytes >= self._max_bytes:
                    failures[place] = BrokerUnavailableError(
                        f"the broker has not acknowledged {self._held_bytes} bytes yet"
                    )
                    continue
                try:
                    for record in records:
                        future, size = append(record)
                        self._held_bytes += size
                        handed[place][id(future)] = future
                # A caller's failure, of whatever kind, is reported to that caller and no other.
                except Exception as error:
                    failures[place] = error
                    if isinstance(error, KafkaError | BrokerUnavailableError):
                        kind: type[BrokerUnavailableError]
                        self.failed(error)
                        kind = NotAcknowledgedError if handed[place] else BrokerUnavailableError
                        if isinstance(error, OF_THE_RECORD):
                            kind = RecordRefusedError
                        failures[place] = kind(f"the broker does not take records: {error}")
        held = self._held_bytes - before
        answers = {key: future for futures in handed for key, future in futures.items()}
        # next() on a counter is atomic, so that no lock is needed.
        count = itertools.count(1).__next__

        def settle() -> None:
            if outcome.done():
                return
            doubt.cancel()
            late.cancel()
            self._held_bytes -= held
            if all(map(_succeeded, answers.values())):
                outcome.set_result(failures)
                return
            outcome.set_result(
                [
                    failure or self.answer(futures.values())
                    for failure, futures in zip(failures, handed, strict=True)
                ]
            )

        def answered(_result: object) -> None:
            if count() == len(answers):
                with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits
                    loop.call_soon_threadsafe(settle)

        doubt = loop.call_later(_DOUBT_S, self._doubt)
        late = loop.call_later(self._timeout_s + 1, settle)
        for future in answers.values():
            future.add_both(answered)
        if not answers:
            settle()
        return await outcome

    @contextlib.contextmanager
    def appending(self, client: ProducerClient) -> Iterator[Append]:
        """A function that appends a record to the client's batches, for the block.

        It returns the future of the batch that the record is in, and the bytes of the record's
        value. The client's thread is woken once, at the end.
        """
        topic: Topic | None = None
        name, partitions = "", 0
        request_id: str | None = None
        headers = b""

        def append(record: OutgoingRecord) -> tuple[Any, int]:
            nonlocal topic, name, partitions, request_id, headers
            if record.topic is not topic:
                name = self._names[record.topic.name]
                partitions = record.topic.spread(client.partitions_known(name))
                if not partitions:
                    raise BrokerUnavailableError(
                        f"the broker does not tell the partitions of {name}"
                    )
                topic = record.topic
            # Not by value: of two requests with the same id, one may be traced.
            if record.request_id is not request_id:
                request_id = record.request_id
                headers = encoded_headers(headers_of(request_id))
            value = encoded(record.record)
            key = record.key.encode()
            at = name, partition_of(key, partitions)
            place = self._places.get(at)
            if place is None:
                place = self._places[at] = TopicPartition(*at)
            return client.append(place, key, value, headers), len(value or b"")

        with client.appending():
            yield append

    def answer(self, futures: Iterable[Any]) -> Failure:
        """The failure of one caller's batches; a batch without an answer by now has failed."""
        for future in futures:
            if _succeeded(future):
                continue
            failure = future.exception or (
                future.value[2](0) if future.is_done else TimeoutError("no answer in time")
            )
            self.failed(failure)
            kind = (
                RecordRefusedError if isinstance(failure, OF_THE_RECORD) else NotAcknowledgedError
            )
            return kind(f"the broker did not acknowledge: {failure}")
        return None

    def _knows(self, client: ProducerClient, topic: str) -> bool:
        """Whether the client knows the topic's partitions; asks for them where not."""
        return client.partitions_known(self._names[topic]) > 0


def _succeeded(batch: Any) -> bool:
    """Whether the broker has acknowledged a batch, of which this is the future."""
    return bool(batch.is_done and batch.exception is None and batch.value[2] is None)


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
