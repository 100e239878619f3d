"""Send records and know when the broker has them."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from slipstream.broker import codec
from slipstream.broker.client import Client, client_arguments, partition_of
from slipstream.broker.kafka import (
    BrokerUnavailableError,
    NotAcknowledgedError,
    RecordRefusedError,
    reachable,
)
from slipstream.broker.topics import ensure_topics, physical, topic_differences
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Record
from slipstream.contracts.topics import TOPICS, Topic

log = get_logger(__name__)

# Failures that say something of one record, and nothing of the connection.
_OF_THE_RECORD = (InvalidTopicError, MessageSizeTooLargeError, RecordListTooLargeError)
# Without an answer for so long, the broker is asked whether it is there at all.
_DOUBT_S = 1.0
_ASK_AGAIN_S = 0.02


class Outgoing(NamedTuple):
    """A record on its way: its topic, its key (decides the partition, and so the order), and the
    request it came from. A record that is encoded already is taken as it is.
    """

    topic: Topic
    key: str
    record: Record | bytes
    request_id: str = ""


# What went wrong with a caller's records: a `BrokerUnavailableError`, or what can't be encoded says
# of itself.
Failure = Exception | None


class Producer:
    """An idempotent producer with `acks=all`. Safe to use from several threads and from an event
    loop.

    `publish` returns only when the broker has acknowledged; `send` does not wait, and counts what
    failed in `failures`. While no bootstrap server can be reached, records are refused at once. The
    client is replaced when it can't go on (`Client.broken`), and only then, since whatever else it
    has under way fails with it.
    """

    def __init__(
        self, settings: KafkaSettings, namespace: str, *, linger_ms: int = 1, connect: bool = True
    ) -> None:
        """Connects, or raises `BrokerUnavailableError`; without `connect` the broker is looked for
        in the background.
        """
        self._settings = settings
        self._namespace = namespace
        self._linger_ms = linger_ms
        self._timeout_s = settings.delivery_timeout_ms / 1000
        self._names = {topic.name: physical(namespace, topic) for topic in TOPICS}
        self._places: dict[tuple[str, int], TopicPartition] = {}
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._away = not connect
        self.failures = 0
        self._producer: Client | None = self._connect() if connect else None
        if not connect:
            self._look_after()

    @property
    def away(self) -> bool:
        """No bootstrap server can be reached; it is looked for."""
        return self._away

    def topic_id(self, topic: Topic) -> str:
        """The broker's id of a topic that is in use, as the client knows it now; "" where it does
        not.
        """
        return self._producer.topic_id(self._name(topic)) if self._producer is not None else ""

    def send(self, topic: Topic, key: str, record: Record, request_id: str = "") -> None:
        """Hand the record over and return; a failure to deliver is counted in `failures`."""

        def failed(error: Exception) -> None:
            self.failures += 1
            self._failed(error)

        try:
            client, name = self._usable(), self._name(topic)
            if not client.partitions_known(name):  # the library would wait for them, here
                raise BrokerUnavailableError(f"the broker has not told the partitions of {name}")
            client.send(
                name, codec.encode(record), key.encode(), codec.headers(request_id)
            ).add_errback(failed)
        except (KafkaError, BrokerUnavailableError) as error:
            failed(error)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Send all and return when the broker has acknowledged every one; records of one key keep
        their order.

        Raises `BrokerUnavailableError` when any record was not acknowledged in time. If it is a
        `NotAcknowledgedError`, some of them may be on the topic all the same: records that are sent
        again then stand there twice, under two offsets.
        """
        if not records:
            return
        (failure,) = await self.publish_each([records])
        if failure is not None:
            raise failure

    async def publish_each(self, lists: Sequence[Sequence[Outgoing]]) -> list[Failure]:
        """Send several callers' records in one go, at once, and return when each has its answer:
        what went wrong with it, if anything, in the order given. The client gets them in one go,
        since each that it gets alone wakes its thread, which costs more than the record; the last
        answer of all wakes the event loop, once.

        Records of a topic whose partitions are not known wait for them, up to the time that a
        delivery may take. A topic that is missing is made.
        """
        try:
            client = self._usable()
        except BrokerUnavailableError as error:
            return [error] * len(lists)
        topics = {record.topic.name for records in lists for record in records}
        unknown = {topic for topic in topics if not self._knows(client, topic)}
        if not unknown:
            return await self._hand_over(client, lists)
        self._look_after()
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
        self, client: Client, lists: Sequence[Sequence[Outgoing]], topics: Collection[str]
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
        self, client: Client, lists: Sequence[Sequence[Outgoing]]
    ) -> list[Failure]:
        """Hand several callers' records to the client in one go, and wait for the answer to each
        caller.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Failure]] = loop.create_future()
        failures: list[Failure] = [None] * len(lists)
        handed: list[dict[int, Any]] = [{} for _ in lists]
        with client.appending():
            for place, records in enumerate(lists):
                try:
                    self._append(client, records, handed[place])
                except Exception as error:
                    # One caller's failure, of whatever kind, is told to that caller and no other.
                    failures[place] = error
                    if isinstance(error, KafkaError | BrokerUnavailableError):
                        kind: type[BrokerUnavailableError]
                        self._failed(error)
                        kind = NotAcknowledgedError if handed[place] else BrokerUnavailableError
                        if isinstance(error, _OF_THE_RECORD):
                            kind = RecordRefusedError
                        failures[place] = kind(f"the broker does not take records: {error}")
        answers = {key: future for futures in handed for key, future in futures.items()}
        # next() on a counter is atomic, so that no lock is needed.
        count = itertools.count(1).__next__

        def settle() -> None:
            if outcome.done():
                return
            doubt.cancel()
            late.cancel()
            outcome.set_result(
                [
                    failure or self._answer(futures.values())
                    for failure, futures in zip(failures, handed, strict=True)
                ]
            )

        def answered(_result: object) -> None:
            if count() == len(answers):
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(settle)

        doubt = loop.call_later(_DOUBT_S, self._look_after)
        late = loop.call_later(self._timeout_s + 1, settle)
        for future in answers.values():
            future.add_both(answered)
        if not answers:
            settle()
        return await outcome

    def _append(self, client: Client, records: Sequence[Outgoing], handed: dict[int, Any]) -> None:
        """Hand over one caller's records. `handed` gets the futures of the batches that they are
        in.
        """
        topic, name, partitions, request_id, headers = None, "", 0, None, codec.headers("")
        for record in records:
            if record.topic is not topic:
                topic, name = record.topic, self._name(record.topic)
                partitions = client.partitions_known(name)
                if not partitions:
                    raise BrokerUnavailableError(
                        f"the broker does not tell the partitions of {name}"
                    )
            if record.request_id != request_id:
                request_id, headers = record.request_id, codec.headers(record.request_id)
            value = (
                record.record if isinstance(record.record, bytes) else codec.encode(record.record)
            )
            key = record.key.encode()
            partition = partition_of(key, partitions)
            place = self._places.get((name, partition))
            if place is None:
                place = self._places[name, partition] = TopicPartition(name, partition)
            future = client.append(place, key, value, headers)
            handed[id(future)] = future

    def _answer(self, futures: Iterable[Any]) -> Failure:
        """Whether all of one caller's records were acknowledged; what has no answer by now has
        failed.
        """
        for future in futures:
            if future.is_done and future.exception is None and future.value[2] is None:
                continue
            failure = future.exception or (
                future.value[2](0) if future.is_done else TimeoutError("no answer in time")
            )
            self._failed(failure)
            kind = (
                RecordRefusedError if isinstance(failure, _OF_THE_RECORD) else NotAcknowledgedError
            )
            return kind(f"the broker did not acknowledge: {failure}")
        return None

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
            except KafkaError as error:  # what it still holds can't be delivered
                log.warning("closed with records that were not acknowledged", reason=str(error))
                self._producer.abandon()

    def _knows(self, client: Client, topic: str) -> bool:
        """Whether the client knows the topic's partitions; asks for them where not."""
        return client.partitions_known(self._names[topic]) > 0

    def _name(self, topic: Topic) -> str:
        return self._names[topic.name]

    def _usable(self) -> Client:
        client = self._producer
        if self._away or client is None:
            raise BrokerUnavailableError("no connection to the broker; it is being looked for")
        if client.broken:
            self._look_after()
            raise BrokerUnavailableError("the connection to the broker is being made anew")
        return client

    def _connect(self) -> Client:
        """A client that knows the partitions of all topics that exist. A real broker tells only of
        those that it is asked about, and the first record of a topic would have to wait for the
        answer.
        """
        try:
            client = Client(**client_arguments(self._settings, self._linger_ms))
            client.learn(list(self._names.values()))
            return client
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {self._settings.bootstrap_servers}: {error}"
            ) from error

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, _OF_THE_RECORD) or (
            self._producer is not None and self._producer.broken
        ):
            self._look_after()

    def _look_after(self) -> None:
        """See in the background whether the broker is there and the client can go on with it."""
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
        finally:
            self._looking.release()

    def _reach(self) -> None:
        """Return when the broker is there, with the topics: the embedded one forgets them."""
        asyncio.run(reachable(self._settings, 1.0))
        ensure_topics(self._settings, self._namespace)

    def _replace(self, broken: Client | None) -> None:
        if broken is not None:
            log.warning("the connection to the broker is made anew")
            broken.abandon()
        fresh = self._connect()
        self._producer = fresh
        if self._closed.is_set():
            fresh.abandon()


async def open_producer(
    settings: KafkaSettings, namespace: str, *, linger_ms: int = 1, required: bool = True
) -> Producer:
    """A producer for topics that exist, with a leader for each partition.

    Logs where an existing topic is not as it is wanted. Raises `BrokerUnavailableError` when no
    broker answers; or, where that is not `required`, gives a producer that goes on looking for one.
    """

    def connect() -> Producer:
        ensure_topics(settings, namespace)
        for difference in topic_differences(settings, namespace):
            log.warning("a topic is not as it is wanted", difference=difference)
        return Producer(settings, namespace, linger_ms=linger_ms)

    try:
        return await asyncio.to_thread(connect)
    except BrokerUnavailableError as error:
        if required:
            raise
        log.warning("going on without the broker", reason=str(error))
        return Producer(settings, namespace, linger_ms=linger_ms, connect=False)
