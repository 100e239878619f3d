"""Read records: in a group that shares the partitions, or all of them from the beginning."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from slipstream.broker import codec
from slipstream.broker.kafka import BrokerUnavailableError, connection, physical, topic_ids
from slipstream.chassis.logging import get_logger, request_id
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Record
from slipstream.contracts.topics import Topic

log = get_logger(__name__)

#: The lag costs a question to the broker.
_LAG_EVERY_S = 5.0
_STALLED_AFTER = 2
#: After a batch of so many records more are likely to wait.
_BACKLOG = 1_000

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record stands: offsets count within one partition of one incarnation (`topic_id`) of a topic."""

    topic: str
    topic_id: str
    partition: int

    @property
    def name(self) -> str:
        """How states and the lake call it: "<topic id>:<partition>"."""
        return f"{self.topic_id}:{self.partition}"


@dataclass(frozen=True, slots=True)
class Message(Generic[R]):
    """A record with its place in the stream."""

    source: Source
    offset: int
    key: str
    record: R
    request_id: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes on a topic that are not its record, and why."""

    source: Source
    offset: int
    value: bytes
    reason: str
    request_id: str


@dataclass(slots=True)
class Batch:
    """What one poll gave. `next_offsets` is what to commit once all of it has had its effect."""

    messages: list[Message[Any]] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    next_offsets: dict[Source, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.messages or self.malformed)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, assigned: Callable[[], None], revoked: Callable[[], None]) -> None:
        self._assigned, self._revoked = assigned, revoked

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self._assigned()

    def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        self._revoked()


class Consumer:
    """Reads `topics` at least once, in order within a partition. Not thread-safe: poll, commit and close in one thread.

    With a `group`, partitions are shared with the group's other members and reading goes on from the committed offset
    (from the beginning where there is none). Without, every partition is read from its beginning, and nothing is committed.
    A topic that was made anew meanwhile (the embedded broker forgets everything when it stops) is read from its beginning.
    `on_revoked` runs before partitions are given away: finish and commit what is under way there.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        namespace: str,
        topics: Sequence[Topic],
        group: str | None,
        *,
        max_poll_records: int = 2_000,
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._by_name = {physical(namespace, topic): topic for topic in topics}
        self._physical = {topic.name: name for name, topic in self._by_name.items()}
        self._ids: dict[str, str] = {}
        self._next: dict[Any, int] = {}
        self._connections: set[Any] = set()
        self._stale = threading.Event()
        self._stale.set()
        try:
            self._consumer = KafkaConsumer(
                **connection(settings),
                group_id=f"{namespace}.{group}" if group else None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
                max_poll_records=max_poll_records,
                session_timeout_ms=settings.session_timeout_ms,
                heartbeat_interval_ms=settings.session_timeout_ms // 10,
                # A consumer that looked while a restarted broker had no topics yet must not wait for minutes to look again.
                metadata_max_age_ms=5_000,
                metrics_enabled=False,
            )
            if group:
                self._consumer.subscribe(list(self._by_name), listener=_Listener(self._assigned, on_revoked))
            else:
                partitions = [
                    TopicPartition(name, number) for name, topic in self._by_name.items() for number in range(topic.partitions)
                ]
                self._consumer.assign(partitions)
                self._consumer.seek_to_beginning(*partitions)
        except KafkaError as error:
            raise BrokerUnavailableError(f"no Kafka broker answers at {settings.bootstrap_servers}: {error}") from error

    def _assigned(self) -> None:
        self._next.clear()
        self._stale.set()

    def poll(self, timeout_s: float) -> Batch:
        """The next records, or an empty batch after `timeout_s`."""
        polled: Mapping[Any, list[Any]] = self._consumer.poll(timeout_s * 1000)
        batch = Batch()
        if not polled:
            if self._doubtful(polled):
                try:
                    self._another_topic()
                except KafkaError:  # away: looked at again when it is back, before anything is read
                    self._stale.set()
            return batch
        if self._doubtful(polled) and self._another_topic():
            return batch
        for partition, records in polled.items():
            topic = self._by_name[partition.topic]
            source = Source(topic.name, self._ids[partition.topic], partition.partition)
            for record in records:
                if record.value is None:
                    continue
                rid = codec.request_id_of(record.headers)
                try:
                    decoded = codec.decode(topic, record.value)
                except codec.MalformedRecordError as error:
                    batch.malformed.append(Malformed(source, record.offset, record.value, str(error), rid))
                else:
                    key = record.key.decode(errors="replace") if record.key else ""
                    batch.messages.append(Message(source, record.offset, key, decoded, rid))
            self._next[partition] = batch.next_offsets[source] = records[-1].offset + 1
        return batch

    def _doubtful(self, polled: Mapping[Any, list[Any]]) -> bool:
        """Whether the topics may be others than those whose ids are known, so that these records would get a wrong `Source`.

        The client fetches by name. After a broker that keeps nothing has restarted, it goes on in the middle of the new topic
        until the group has gone through; only its connections tell.
        """
        connections = set(self._consumer._manager._conns.values())
        fresh = not connections <= self._connections
        self._connections = connections
        if self._stale.is_set() or fresh:
            self._stale.clear()
            return True
        return any(records[0].offset < self._next.get(partition, 0) for partition, records in polled.items())

    def _another_topic(self) -> bool:
        """Learn the topics' ids; whether one has changed. Those topics are then read from their beginning: what was polled may
        come from either, and reading again is harmless."""
        known, self._ids = self._ids, topic_ids(self._settings, list(self._by_name))
        changed = {name for name, topic_id in known.items() if self._ids.get(name) != topic_id}
        if len(self._ids) < len(self._by_name):  # a broker that has just restarted gets its topics back in a moment
            self._stale.set()
        partitions = [partition for partition in self._consumer.assignment() if partition.topic in changed]
        if partitions:
            log.warning("topics were made anew; reading them from the beginning", topics=sorted(changed))
            self._next.clear()
            self._consumer.seek_to_beginning(*partitions)
        return bool(changed)

    def rewind(self) -> None:
        """Read again from what the group has committed, or from the beginning where it has committed nothing."""
        self._next.clear()
        for partition in self._consumer.assignment():
            committed = self._consumer.committed(partition)
            if committed is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, committed)

    def lag(self) -> dict[str, int] | None:
        """How many records lie between what `poll` has returned and the present ends of the assigned partitions, by topic, as
        the broker says now; 0 for a topic of which no partition is assigned. None when the broker does not say, or when it is
        not yet known where reading begins.

        What the client remembers of its fetches would cost nothing, but it knows only the partitions that it has come to: of a
        backlog it tells a small part.
        """
        # The client's own `position` asks the broker where it does not know, and waits for the answer without limit.
        known = {partition: self._consumer._subscription.position(partition) for partition in self._consumer.assignment()}
        behind = {topic.name: 0 for topic in self._by_name.values()}
        if not known:
            return behind
        if None in known.values():
            return None
        try:
            ends = self._consumer.end_offsets(list(known), timeout_ms=2_000)
        except (KafkaError, KeyError):  # KeyError: 3.0.12 raises it for a topic that a restarted broker does not have yet
            return None
        for partition, end in ends.items():
            # Of its newest batch of records the embedded broker counts only the first here; a fetch tells the true end.
            newest = max(int(end), self._consumer.highwater(partition) or 0)
            behind[self._by_name[partition.topic].name] += max(0, newest - known[partition].offset)
        return behind

    def remaining(self) -> int | None:
        """The sum of `lag`; None also while no partition is assigned."""
        behind = self.lag() if self._consumer.assignment() else None
        return None if behind is None else sum(behind.values())

    def commit(self, next_offsets: Mapping[Source, int]) -> bool:
        """Say that everything before these offsets has had its effect. False when the partitions now belong to another
        member, or the broker is away: they will be read again, which is harmless, since effects are applied once. Without a
        group there is nothing to say.

        Offsets of a topic that was made anew meanwhile are left out: in its place they would skip records that nobody has read.
        """
        if not next_offsets or self._group is None:
            return True
        if self._doubtful({}):
            try:
                self._another_topic()
            except KafkaError:
                self._stale.set()
                return False
        offsets = {
            TopicPartition(name, source.partition): OffsetAndMetadata(offset, "", -1)
            for source, offset in next_offsets.items()
            if self._ids.get(name := self._physical[source.topic]) == source.topic_id
        }
        if not offsets:
            return True
        try:
            self._consumer.commit(offsets)
        except (CommitFailedError, RebalanceInProgressError):
            return False
        return True

    def end_offsets(self) -> dict[Source, int]:
        """Where each assigned partition ends now."""
        ends = self._consumer.end_offsets(list(self._consumer.assignment()))
        ids = self._ids or topic_ids(self._settings, list(self._by_name))
        return {
            Source(self._by_name[partition.topic].name, ids.get(partition.topic, ""), partition.partition): offset
            for partition, offset in ends.items()
        }

    def close(self) -> None:
        """Leave the group, so that others need not wait for the session's end."""
        self._consumer.close(autocommit=False, timeout_ms=2_000)


class LagGauge:
    """Tells `slipstream_consumer_lag_records` of one consumer. Every loop that polls has one: without it, no alert on lag."""

    def __init__(self, consumer: Consumer, metrics: Metrics) -> None:
        self._consumer, self._gauge = consumer, metrics.consumer_lag
        self._due = 0.0
        self._unanswered = 0

    def update(self) -> None:
        """Set the gauge for each topic; call it in the polling thread as often as you like: it asks the broker every few
        seconds, and waits at most 2 s for the answer. Where there is none, the gauge stays as it is.

        Raises `BrokerUnavailableError` when there was none several times in a row: the broker is away, or the client does not
        find where to begin. A new consumer looks anew.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _LAG_EVERY_S
        behind = self._consumer.lag()
        self._unanswered = 0 if behind is not None else self._unanswered + 1
        if self._unanswered >= _STALLED_AFTER:
            raise BrokerUnavailableError("the broker does not say where reading begins")
        for topic, records in (behind or {}).items():
            self._gauge.labels(topic).set(records)


@contextmanager
def carrying(rid: str) -> Iterator[None]:
    """Within the block, `rid` is the request that log lines, calls to other services and events belong to ("": none)."""
    token = request_id.set(rid)
    try:
        yield
    finally:
        request_id.reset(token)


def consume(
    consumer: Consumer,
    handle: Callable[[Batch], None],
    stop: threading.Event,
    *,
    metrics: Metrics,
    poll_s: float = 0.5,
    rest_s: float = 0.0,
) -> None:
    """Poll, handle, commit, until `stop` is set; then leave the group. `handle` must have had its effect when it returns.

    Who need not know at once rests for `rest_s` after a batch, unless it is behind: a batch costs the more in total, here and at
    the broker, the fewer records it brings.

    Its effect may happen twice for one record (after a failure between handling and committing): make it idempotent.
    Where it goes message by message, it does so in `carrying(message.request_id)`.
    """
    lag = LagGauge(consumer, metrics)
    try:
        while not stop.is_set():
            batch = consumer.poll(poll_s)
            if batch:
                handle(batch)
                consumer.commit(batch.next_offsets)
                observe(batch, metrics)
            lag.update()
            if batch and len(batch.messages) < _BACKLOG:
                stop.wait(rest_s)
    finally:
        consumer.close()


def observe(batch: Batch, metrics: Metrics) -> None:
    """Count a batch, and trace each record at debug level, so that one request id can be followed through the services."""
    for topic, records in Counter(message.source.topic for message in batch.messages).items():
        metrics.consumed.labels(topic).inc(records)
    if log.is_enabled_for(logging.DEBUG):
        for message in batch.messages:
            log.debug(
                "consumed",
                topic=message.source.topic,
                partition=message.source.partition,
                offset=message.offset,
                request_id=message.request_id,
            )
    for malformed in batch.malformed:
        metrics.malformed.labels(malformed.source.topic).inc()
        log.warning(
            "malformed record",
            topic=malformed.source.topic,
            offset=malformed.offset,
            reason=malformed.reason,
            request_id=malformed.request_id,
        )
