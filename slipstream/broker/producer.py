"""Send records and know when the broker has them."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import InvalidTopicError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from slipstream.broker import codec
from slipstream.broker.kafka import BrokerUnavailableError, connection, ensure_topics, physical, reachable
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Record
from slipstream.contracts.topics import Topic

log = get_logger(__name__)

#: Failures that say something of one record, and nothing of the connection.
_OF_THE_RECORD = (InvalidTopicError, MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way: its topic, its key (decides the partition, and so the order), and the request it came from."""

    topic: Topic
    key: str
    record: Record
    request_id: str = ""


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

        Raises `BrokerUnavailableError` when any was not acknowledged in time. Some of them may be on the topic then:
        sending all again is safe, since consumers drop repeats by event id or overwrite by key.
        """
        if not records:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        remaining = len(records)
        failure: Exception | None = None
        lock = threading.Lock()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def acknowledged(outcome: object) -> None:
            nonlocal remaining, failure
            with lock:
                remaining -= 1
                if isinstance(outcome, Exception):
                    failure = outcome
                last = remaining == 0
            if last:
                loop.call_soon_threadsafe(settle)

        try:
            for record in records:
                self._hand_over(record).add_both(acknowledged)
            await asyncio.wait_for(done, self._timeout_s + 1)
        except (KafkaError, TimeoutError) as error:
            self._failed(error)
            raise BrokerUnavailableError(f"the broker did not acknowledge: {error or 'no answer in time'}") from error
        if failure is not None:
            self._failed(failure)
            raise BrokerUnavailableError(f"the broker did not acknowledge: {failure}")

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
            return KafkaProducer(
                **connection(self._settings),
                acks="all",
                linger_ms=self._linger_ms,
                batch_size=131_072,
                compression_type="lz4",
                max_block_ms=2_000,
                # A topic made by accident would have the broker's default number of partitions.
                allow_auto_create_topics=False,
                request_timeout_ms=min(5_000, self._settings.delivery_timeout_ms - self._linger_ms - 1),
                delivery_timeout_ms=self._settings.delivery_timeout_ms,
                metrics_enabled=False,
            )
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
