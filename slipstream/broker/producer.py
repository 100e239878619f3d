"""Send records and know when the broker has them."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import InvalidTopicError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2

from slipstream.broker import codec
from slipstream.broker.kafka import BrokerUnavailableError, connection, ensure_topics, physical, reachable
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Record
from slipstream.contracts.topics import Topic

log = get_logger(__name__)

#: Failures that say something of one record, and nothing of the connection.
_OF_THE_RECORD = (InvalidTopicError, MessageSizeTooLargeError, RecordListTooLargeError)


#: So many records are worth a journey of their own.
_ENOUGH = 64
#: The longest that published records wait for others.
_GATHER_S = 0.01


class Outgoing(NamedTuple):
    """A record on its way: its topic, its key (decides the partition, and so the order), and the request it came from."""

    topic: Topic
    key: str
    record: Record
    request_id: str = ""


_Waiting = tuple[Sequence[Outgoing], "asyncio.Future[None]"]
_Handed = tuple[list[Any], "asyncio.Future[None]"]


@dataclass(slots=True)
class _Outbox:
    """What was published on one event loop and not yet handed over, and how many handovers have no answer yet."""

    waiting: list[_Waiting] = field(default_factory=list)
    under_way: int = 0
    departure: asyncio.Handle | None = None


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
        "partitioner": _KeyPartitioner(),
    }


class _KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The partition that every Kafka client takes for a key, with the hash remembered: in Python it costs as much as the rest
    of a send, and a visitor comes again."""

    _hash = staticmethod(lru_cache(65_536)(murmur2))

    def partition(
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: bytes | None, cluster: Any
    ) -> int:
        partitions = cluster.partitions_for_topic(topic)
        if serialized_key is None or not partitions:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        return int((self._hash(serialized_key) & 0x7FFFFFFF) % len(partitions))


class Producer:
    """An idempotent producer with `acks=all`. Safe to use from several threads and from an event loop.

    `publish` returns only when the broker has acknowledged; `send` does not wait, and counts what failed in `failures`.
    """

    def __init__(self, settings: KafkaSettings, namespace: str, *, linger_ms: int = 1) -> None:
        self._settings = settings
        self._namespace = namespace
        self._linger_ms = linger_ms
        self._timeout_s = settings.delivery_timeout_ms / 1000
        self._names: dict[str, str] = {}
        self._reviving = threading.Lock()
        self._closed = threading.Event()
        self._outboxes: dict[asyncio.AbstractEventLoop, _Outbox] = {}
        self.failures = 0
        self._producer = self._connect()

    def warm_up(self, topics: Sequence[Topic]) -> None:
        """Learn where the topics' partitions are, so that the first `send` from an event loop does not wait for it."""
        for topic in topics:
            self._producer.partitions_for(physical(self._namespace, topic))

    def send(self, topic: Topic, key: str, record: Record, request_id: str = "") -> None:
        """Hand the record over and return; a failure to deliver is counted in `failures`."""

        def failed(error: Exception) -> None:
            self.failures += 1
            self._failed(error)

        try:
            self._hand_over(Outgoing(topic, key, record, request_id)).add_errback(failed)
        except (KafkaError, BrokerUnavailableError) as error:
            failed(error)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Send all and return when the broker has acknowledged every one; records of one key keep their order.

        What is published while the records before it are not yet acknowledged travels together, after at most 10 ms. Raises
        `BrokerUnavailableError` when any record was not acknowledged in time. Some of them may be on the topic all the same:
        records that are sent again then stand there twice, under two offsets.
        """
        if not records:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if len(records) >= _ENOUGH:
            self._hand_over_all([(records, done)], loop)
        else:
            outbox = self._outboxes.setdefault(loop, _Outbox())
            outbox.waiting.append((records, done))
            if outbox.departure is None:
                outbox.departure = (
                    loop.call_later(_GATHER_S, self._depart, loop) if outbox.under_way else loop.call_soon(self._depart, loop)
                )
        await done

    def _depart(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what has gathered; once it is acknowledged, what has gathered since then."""
        outbox = self._outboxes[loop]
        if outbox.departure is not None:
            outbox.departure.cancel()
            outbox.departure = None
        waiting, outbox.waiting = outbox.waiting, []
        outbox.under_way += 1

        def returned() -> None:
            outbox.under_way -= 1
            if outbox.under_way:
                return
            if outbox.waiting:
                self._depart(loop)
            else:
                self._outboxes.pop(loop, None)

        self._hand_over_all(waiting, loop, returned)

    def _hand_over_all(
        self, waiting: list[_Waiting], loop: asyncio.AbstractEventLoop, returned: Callable[[], None] = lambda: None
    ) -> None:
        """Give the library records in one go: each that it gets alone wakes its thread, which costs more than the record, and so
        does waking the event loop for each request. `returned` is called once all have an answer."""
        handed: list[_Handed] = []
        for records, done in waiting:
            try:
                handed.append(([self._hand_over(record) for record in records], done))
            except Exception as error:
                # One caller's failure, of whatever kind, is told to that caller and no other.
                broker = isinstance(error, KafkaError | BrokerUnavailableError)
                if broker:
                    self._failed(error)
                if not done.done():
                    done.set_exception(BrokerUnavailableError(f"the broker does not take records: {error}") if broker else error)
        if not handed:
            loop.call_soon(returned)
            return
        # next() on a counter is atomic, so that no lock is needed. The last acknowledgement of all wakes the loop, once.
        count = itertools.count(1).__next__
        expected = sum(len(futures) for futures, _ in handed)

        def settle() -> None:
            if not late.cancelled():
                late.cancel()
                self._settle(handed)
                returned()

        def acknowledged(_outcome: object) -> None:
            if count() == expected:
                loop.call_soon_threadsafe(settle)

        late = loop.call_later(self._timeout_s + 1, settle)
        for futures, _ in handed:
            for future in futures:
                future.add_both(acknowledged)

    def _settle(self, handed: list[_Handed]) -> None:
        """Tell each caller whether its own records were all acknowledged; what has no answer by now has failed."""
        for futures, done in handed:
            failure: Exception | None = None
            for future in futures:
                if not future.succeeded():
                    failure = future.exception or TimeoutError("no answer in time")
                    self._failed(failure)
                    break
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(BrokerUnavailableError(f"the broker did not acknowledge: {failure}"))

    async def check(self) -> None:
        """A readiness check: raises when the broker can't be reached."""
        if self._reviving.locked():
            raise BrokerUnavailableError("no connection to the broker; it is being looked for")
        await reachable(self._settings)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all that was handed over is delivered or has failed."""
        self._producer.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is under way, then close."""
        self._closed.set()
        self._producer.close(timeout_s)

    def _hand_over(self, record: Outgoing) -> Any:
        if self._reviving.locked():
            raise BrokerUnavailableError("no connection to the broker; it is being looked for")
        name = self._names.get(record.topic.name) or self._names.setdefault(
            record.topic.name, physical(self._namespace, record.topic)
        )
        return self._producer.send(name, codec.encode(record.record), record.key.encode(), codec.headers(record.request_id))

    def _connect(self) -> KafkaProducer:
        try:
            return KafkaProducer(**client_arguments(self._settings, self._linger_ms))
        except KafkaError as error:
            raise BrokerUnavailableError(f"no Kafka broker answers at {self._settings.bootstrap_servers}: {error}") from error

    def _failed(self, error: Exception) -> None:
        """Replace the client after a failure of the connection or of the producer's identity.

        A client whose producer id the broker no longer knows (a fenced one, or any after the embedded broker's restart) never
        recovers by itself, and can't be told from one that would. Until the new client stands, records are refused at once.
        """
        if not isinstance(error, _OF_THE_RECORD) and self._reviving.acquire(blocking=False):
            threading.Thread(target=self._revive, name="producer-revival", daemon=True).start()

    def _revive(self) -> None:
        try:
            with contextlib.suppress(KafkaError):  # what it still holds can't be delivered any more
                self._producer.close(0)
            while not self._closed.wait(0.2):
                try:
                    ensure_topics(self._settings, self._namespace)
                    self._producer = self._connect()
                    for name in list(self._names.values()):
                        self._producer.partitions_for(name)
                    return
                except (KafkaError, BrokerUnavailableError) as error:
                    log.warning("no connection to the broker", error=str(error))
        finally:
            self._reviving.release()


async def open_producer(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic] = (), *, linger_ms: int = 1, patience_s: float = 30.0
) -> Producer:
    """A producer for topics that exist, knowing the partitions of `topics`.

    Waits for a broker that is still starting; raises `BrokerUnavailableError` when none has answered after `patience_s`.
    """

    def connect() -> Producer:
        ensure_topics(settings, namespace)
        producer = Producer(settings, namespace, linger_ms=linger_ms)
        producer.warm_up(topics)
        return producer

    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await asyncio.to_thread(connect)
        except BrokerUnavailableError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.warning("waiting for the broker", reason=str(error))
            await asyncio.sleep(0.5)
