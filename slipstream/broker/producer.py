"""Send records and know when the broker has them."""

import asyncio
import threading
from collections.abc import Sequence

from kafka.errors import KafkaError

from slipstream.broker.client import ProducerClient
from slipstream.broker.delivery import OF_THE_RECORD, Delivery, UnattendedDelivery
from slipstream.broker.delivery import Failure as Failure
from slipstream.broker.delivery import OutgoingRecord as OutgoingRecord
from slipstream.broker.kafka import BrokerUnavailableError, producer_arguments, reachable
from slipstream.broker.topics import ensure_topics, physical, topic_differences
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import NewInteraction, Record
from slipstream.contracts.topics import TOPICS, Topic

log = get_logger(__name__)


class Producer:
    """An idempotent producer with `acks=all`, for several threads and an event loop.

    `publish` returns only when the broker has acknowledged. `send` and `send_all` do not wait, and
    count failed records in `failures`. While no bootstrap server can be reached, records are
    refused at once. The client is replaced only when it is `broken`, since all that it still holds
    fails then.
    """

    def __init__(
        self, settings: KafkaSettings, namespace: str, *, linger_ms: int = 1, connect: bool = True
    ) -> None:
        """Connects, or raises `BrokerUnavailableError`.

        Args:
            linger_ms: Milliseconds for which a record may wait for others of its batch.
            connect: False returns at once, and looks for the broker in the background.
        """
        self._settings = settings
        self._namespace = namespace
        self._linger_ms = linger_ms
        self._names = {topic.name: physical(namespace, topic) for topic in TOPICS}
        self._delivery = Delivery(
            self._names,
            settings.delivery_timeout_ms / 1000,
            max_bytes=settings.max_unacknowledged_bytes,
            doubt=self._look_after,
            failed=self._failed,
        )
        self._unattended = UnattendedDelivery(self._delivery, settings.max_unacknowledged_bytes)
        self._ids: dict[str, str] = {}
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._away = not connect
        self._producer: ProducerClient | None = self._connect() if connect else None
        if not connect:
            self._look_after()

    @property
    def failures(self) -> int:
        """Records that `send` and `send_all` could not deliver."""
        return self._unattended.failures

    @property
    def opened(self) -> bool:
        """A broker was reached since the start."""
        return self._producer is not None

    def topic_id(self, topic: Topic) -> str:
        """The topic's id as the broker last told it; "" before it did.

        An answer without the topic may come from a broker that has just started: only another id
        says that the topic was recreated.
        """
        if self._producer is not None and (told := self._producer.topic_id(self._name(topic))):
            self._ids[topic.name] = told
        return self._ids.get(topic.name, "")

    def send(
        self, topic: Topic, key: str, record: Record | NewInteraction, request_id: str = ""
    ) -> None:
        """Hand one record over and return: see `send_all`."""
        self.send_all([OutgoingRecord(topic, key, record, request_id)])

    def send_all(self, records: Sequence[OutgoingRecord]) -> None:
        """Hand records over and return; those that fail are counted in `failures`.

        It never waits, neither for partitions nor for a broker that is slow to answer.
        """
        try:
            client = self._usable()
        except BrokerUnavailableError as error:
            self._unattended.failed(len(records), error)
            return
        self._unattended.hand_over(client, records)

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Send records and return when the broker has acknowledged all; a key keeps its order.

        Raises:
            NotAcknowledgedError: Some records may be on the topic all the same. If they are sent
                again, they may stand there twice, under two offsets.
            BrokerUnavailableError: A record was not acknowledged in time, or was refused.
        """
        if not records:
            return
        (failure,) = await self.publish_each([records])
        if failure is not None:
            raise failure

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        """Send several callers' records at once; returns each caller's failure, in the order given.

        Records of a topic with unknown partitions wait for them, up to the time that a delivery may
        take. A missing topic is made.
        """
        try:
            client = self._usable()
        except BrokerUnavailableError as error:
            return [error] * len(lists)
        return await self._delivery.deliver(client, lists)

    async def check(self) -> None:
        """A readiness check: raises when the broker can't be reached."""
        if self._away:
            raise BrokerUnavailableError("no connection to the broker; it is being looked for")
        await reachable(self._settings)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all that was handed over is delivered or has failed."""
        if self._producer is not None:
            self._producer.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is under way, then close."""
        self._closed.set()
        if self._producer is not None:
            try:
                self._producer.close(timeout_s)
            except KafkaError as error:
                # Records that it still holds can't be delivered.
                log.warning("closed with records that were not acknowledged", reason=str(error))
                self._producer.abandon()

    def _name(self, topic: Topic) -> str:
        return self._names[topic.name]

    def _usable(self) -> ProducerClient:
        client = self._producer
        if self._away or client is None:
            raise BrokerUnavailableError("no connection to the broker; it is being looked for")
        if client.broken:
            self._look_after()
            raise BrokerUnavailableError("reconnecting to the broker")
        return client

    def _connect(self) -> ProducerClient:
        """Make a client that knows the partitions of all topics that exist.

        A real broker sends only topics that it is asked about, and the first record of any other
        would have to wait for the answer.
        """
        try:
            client = ProducerClient(**producer_arguments(self._settings, self._linger_ms))
            client.learn(list(self._names.values()))
            return client
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {self._settings.bootstrap_servers}: {error}"
            ) from error

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, OF_THE_RECORD) or (
            self._producer is not None and self._producer.broken
        ):
            self._look_after()

    def _look_after(self) -> None:
        """Check in the background that the broker answers and the client is sound."""
        if not self._closed.is_set() and self._looking.acquire(blocking=False):
            threading.Thread(target=self._mend, name="producer-mending", daemon=True).start()

    def _mend(self) -> None:
        try:
            pause = 0.0
            while not self._closed.wait(pause):
                pause = 0.2
                try:
                    self._reach()
                    client = self._producer
                    if client is not None and client.recovering:
                        continue
                    if client is None or client.broken:
                        self._replace(client)
                    self._away = False
                    return
                except (KafkaError, BrokerUnavailableError) as error:
                    self._away = True
                    log.warning("no connection to the broker", error=str(error))
                except RuntimeError:
                    # An interpreter that ends starts no thread any more, and the look needs one.
                    if not self._closed.is_set():
                        raise
        finally:
            self._looking.release()

    def _reach(self) -> None:
        """Return when the broker answers and has the topics, which the embedded one forgets."""
        asyncio.run(reachable(self._settings, 1.0))
        ensure_topics(self._settings, self._namespace)

    def _replace(self, broken: ProducerClient | None) -> None:
        if broken is not None:
            log.warning("reconnecting to the broker")
            broken.abandon()
        fresh = self._connect()
        self._producer = fresh
        if self._closed.is_set():
            fresh.abandon()


async def open_producer(settings: KafkaSettings, namespace: str, *, linger_ms: int = 1) -> Producer:
    """Make the missing topics, and then a producer; logs where an existing topic differs.

    Raises `BrokerUnavailableError` when no broker answers. See `Producer` for the arguments.
    """

    def connect() -> Producer:
        ensure_topics(settings, namespace)
        for difference in topic_differences(settings, namespace):
            log.warning("a topic is not as it is wanted", difference=difference)
        return Producer(settings, namespace, linger_ms=linger_ms)

    return await asyncio.to_thread(connect)
