"""Read records: in a group that shares the partitions, or all of them from the beginning."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from kafka import ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
)

from slipstream.broker.batch import Batch
from slipstream.broker.client import ConsumerClient, Membership
from slipstream.broker.groups import describe_group
from slipstream.broker.kafka import BrokerUnavailableError, connection
from slipstream.broker.topics import physical, topic_ids
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import Topic

log = get_logger(__name__)

# How long the broker may take to say where topics end, and to take a commit.
_ANSWER_MS: Final = 2_000
_COMMIT_MS: Final = 10_000
# The same for a consumer outside its group. A join that waits for the next poll must not wait for
# longer than a session.
_OUTSIDE_ANSWER_MS: Final = 500


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, assigned: Callable[[], None], revoked: Callable[[], None]) -> None:
        self._assigned, self._revoked = assigned, revoked

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self._assigned()

    def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        self._revoked()

    def on_partitions_lost(self, lost: Any) -> None:  # noqa: ARG002
        self._revoked()


class Consumer:
    """Reads `topics` at least once, in order within a partition. Not thread-safe: poll, commit and
    close in one thread.

    With a `group`, partitions are shared with the group's other members and reading goes on from
    the committed offset (from the beginning where there is none). Without, every partition is read
    from its beginning, and nothing is committed. A topic that was made anew meanwhile (the embedded
    broker forgets everything when it stops) is read from its beginning. `on_revoked` runs before
    partitions are given away, on the client's own thread: it must be quick, since no heartbeat goes
    out meanwhile, and it can't commit. After that every partition, one that stays too, is read from
    its committed offset.
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
        self._on_revoked = on_revoked
        self._by_name = {physical(namespace, topic): topic for topic in topics}
        self._physical = {topic.name: name for name, topic in self._by_name.items()}
        # each topic's id as last seen; a topic that the broker does not have now keeps it
        self._ids: dict[str, str] = {}
        self._missing: set[str] = set()
        self._next: dict[Any, int] = {}
        self._connections: set[Any] = set()
        self._stale = threading.Event()
        self._stale.set()
        self.group = f"{namespace}.{group}" if group else None
        # calls of `poll` so far
        self.polls = 0
        try:
            self._client = ConsumerClient(
                **connection(settings),
                group_id=self.group,
                group_instance_id=(settings.instance_id or None) if group else None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
                max_poll_records=max_poll_records,
                session_timeout_ms=settings.session_timeout_ms,
                heartbeat_interval_ms=settings.session_timeout_ms // 10,
                # A consumer that looked while a restarted broker had no topics yet must not wait
                # for minutes to look again.
                metadata_max_age_ms=5_000,
                # A topic made by accident would have the broker's default number of partitions.
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            if group:
                self._client.subscribe(
                    list(self._by_name), listener=_Listener(self._assigned, self._revoked)
                )
            else:
                self._client.assign(self._partitions())
                self._client.seek_to_beginning(*self._partitions())
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {settings.bootstrap_servers}: {error}"
            ) from error

    def _partitions(self) -> list[TopicPartition]:
        return [
            TopicPartition(name, number)
            for name, topic in self._by_name.items()
            for number in range(topic.partitions)
        ]

    def _revoked(self) -> None:
        self._on_revoked()
        self._client.forget_positions()

    def _assigned(self) -> None:
        self._next.clear()
        self._stale.set()

    def poll(self, timeout_s: float) -> Batch:
        """The next records, or an empty batch after `timeout_s`. Raises `RefusedSettingsError`
        where the broker refuses them, and `BrokerUnavailableError` where another consumer has this
        one's `instance_id`.
        """
        self.polls += 1
        polled = self._poll(timeout_s)
        untrusted: Collection[str] = ()
        if self._doubtful(polled):
            try:
                untrusted = self._learn_ids()
            except (
                BrokerUnavailableError
            ):  # looked at again when it is back, before anything is read
                self._stale.set()
                self._missing = {partition.topic for partition in polled}
                untrusted = self._missing
        batch = Batch()
        for partition, records in polled.items():
            if partition.topic in untrusted:
                if (
                    partition.topic in self._missing
                ):  # it may come back as it was: these records come again
                    self._client.seek(partition, records[0].offset)
                continue
            topic = self._by_name[partition.topic]
            batch.add(
                topic, Source(topic.name, self._ids[partition.topic], partition.partition), records
            )
            self._next[partition] = records[-1].offset + 1
        return batch

    def _poll(self, timeout_s: float) -> Mapping[Any, list[Any]]:
        try:
            polled: Mapping[Any, list[Any]] = self._client.poll(timeout_s * 1000)
        except InvalidSessionTimeoutError as error:
            raise RefusedSettingsError(
                f"the broker refuses SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS={self._settings.session_timeout_ms}: it takes what "
                "lies between its group.min.session.timeout.ms (6000 by default) and group.max.session.timeout.ms (1800000)"
            ) from error
        except FencedInstanceIdError as error:
            raise BrokerUnavailableError(self._fenced()) from error
        except KafkaError as error:
            raise BrokerUnavailableError(self._away(error)) from error
        return polled

    def _away(self, error: KafkaError) -> str:
        return f"{self._settings.bootstrap_servers} can't be read from: {error}"

    def _fenced(self) -> str:
        return (
            f"another consumer of the group {self.group} took over the name {self._settings.instance_id}: "
            "give each replica a SLIPSTREAM_KAFKA__INSTANCE_ID of its own"
        )

    def _doubtful(self, polled: Mapping[Any, list[Any]]) -> bool:
        """Whether the topics may be others than those whose ids are known, so that these records
        would get a wrong `Source`.

        The client fetches by name. After a broker that keeps nothing has restarted, it goes on in
        the middle of the new topic until the group has gone through; its connections tell. Of a
        topic that was deleted and made again, its metadata do.
        """
        connections = self._client.connections()
        fresh = not connections <= self._connections
        self._connections = connections
        renewed = any(
            self._client.topic_id(name) not in ("", topic_id)
            for name, topic_id in self._ids.items()
        )
        if self._stale.is_set() or fresh or renewed:
            self._stale.clear()
            return True
        return any(
            records[0].offset < self._next.get(partition, 0)
            for partition, records in polled.items()
        )

    def _learn_ids(self) -> set[str]:
        """Learn the topics' ids; returns the topics whose records in hand can't be given a place.

        A topic with another id was made anew. It is read from its beginning: what is in hand may
        come from either, and reading again is harmless. One that the broker does not have now may
        be back in a moment, with the same id.
        """
        present = topic_ids(self._settings, list(self._by_name))
        renewed = {
            name for name, topic_id in present.items() if self._ids.get(name, topic_id) != topic_id
        }
        self._ids |= present
        self._missing = self._by_name.keys() - present.keys()
        if self._missing:
            self._stale.set()
        again = [partition for partition in self._client.assignment() if partition.topic in renewed]
        if again:
            log.warning(
                "topics were made anew; reading them from the beginning", topics=sorted(renewed)
            )
            for partition in again:
                self._next.pop(partition, None)
            self._client.seek_to_beginning(*again)
        return renewed | self._missing

    def rewind(self) -> None:
        """Read again from what the group has committed, or from the beginning where it has
        committed nothing. Raises `BrokerUnavailableError`.
        """
        self._next.clear()
        assigned = list(self._client.assignment())
        try:
            committed = self._client.committed_offsets(assigned, _ANSWER_MS) if assigned else {}
        except KafkaError as error:
            raise BrokerUnavailableError(self._away(error)) from error
        for partition in assigned:
            if partition in committed:
                self._client.seek(partition, committed[partition])
            else:
                self._client.seek_to_beginning(partition)

    @property
    def membership(self) -> Membership | None:
        """Its place in the group, as far as the client knows; None without a group."""
        return self._client.membership if self.group else None

    def standing(self) -> dict[TopicPartition, tuple[int, int]] | None:
        """The next offset to read, and the present end, of each assigned partition. None when the
        broker does not say, or when it is not yet known where reading begins.

        What the client remembers of its fetches would cost nothing, but it knows only the
        partitions that it has come to: of a backlog it tells a small part.
        """
        positions = self._client.positions()
        known = {partition: offset for partition, offset in positions.items() if offset is not None}
        if len(known) < len(positions):
            return None
        ends = self._client.ends(list(known), _ANSWER_MS) if known else {}
        if ends is None:
            return None
        if any(known[partition] > end for partition, end in ends.items()):
            self._stale.set()  # perhaps a topic was made anew so quickly that nothing else told it
        return {partition: (known[partition], end) for partition, end in ends.items()}

    def lag(self) -> dict[str, int] | None:
        """Records between what `poll` has returned and the present ends of the assigned partitions,
        by topic, as the broker says now; 0 for a topic of which the group's other members have all
        partitions. Of a consumer that is not in its group, the records that the whole group has not
        committed: it may be the only one. None when the broker does not say.
        """
        return self.behind(self.standing())

    def behind(
        self, standing: Mapping[TopicPartition, tuple[int, int]] | None
    ) -> dict[str, int] | None:
        """The `lag` of a consumer that has this `standing`."""
        if standing == {} and self.membership is not None and not self.membership.joined:
            standing = self._uncommitted()
        if standing is None:
            return None
        behind = {topic.name: 0 for topic in self._by_name.values()}
        for partition, (position, end) in standing.items():
            behind[self._by_name[partition.topic].name] += max(0, end - position)
        return behind

    def _uncommitted(self) -> dict[TopicPartition, tuple[int, int]] | None:
        """What the group has committed of each partition, and where the partition ends."""
        try:
            committed = self._client.committed_offsets(self._partitions(), _OUTSIDE_ANSWER_MS)
        except KafkaError:
            return None
        ends = self._client.ends(self._partitions(), _OUTSIDE_ANSWER_MS)
        return (
            None
            if ends is None
            else {partition: (committed.get(partition, 0), end) for partition, end in ends.items()}
        )

    def remaining(self) -> int | None:
        """The sum of `lag`; None also while no partition is assigned."""
        behind = self.lag() if self._client.assignment() else None
        return None if behind is None else sum(behind.values())

    def may_be_spare(self) -> bool:
        """Whether the group has members enough without this one, so that it may rightly have no
        partition. Raises `BrokerUnavailableError`.
        """
        partitions = [(partition.topic, partition.partition) for partition in self._partitions()]
        return describe_group(self._settings, self.group or "").is_full(partitions)

    def commit(self, next_offsets: Mapping[Source, int]) -> bool:
        """Say that everything before these offsets has had its effect. False when the partitions
        now belong to another member, or the broker is away: they will be read again, which is
        harmless, since effects are applied once. Without a group there is nothing to say.

        Offsets of a topic that was made anew meanwhile are left out: in its place they would skip
        records that nobody has read.
        """
        if not next_offsets or self.group is None:
            return True
        try:
            self._client.refresh_metadata(_ANSWER_MS)
            if self._doubtful({}):
                self._learn_ids()
        except (BrokerUnavailableError, KafkaError):
            self._stale.set()
            return False
        offsets = {
            TopicPartition(name, source.partition): OffsetAndMetadata(offset, "", -1)
            for source, offset in next_offsets.items()
            if (name := self._physical[source.topic]) not in self._missing
            and self._ids.get(name) == source.topic_id
        }
        if not offsets:
            return True
        try:
            self._client.commit(offsets, timeout_ms=_COMMIT_MS)
        except FencedInstanceIdError as error:
            raise BrokerUnavailableError(self._fenced()) from error
        except (
            CommitFailedError,
            RebalanceInProgressError,
            KafkaTimeoutError,
            KafkaConnectionError,
        ):
            return False
        return True

    def ends(self) -> dict[Source, int]:
        """Where each assigned partition ends now. Raises `BrokerUnavailableError` when the broker
        does not say.
        """
        ends = self._client.ends(list(self._client.assignment()), _ANSWER_MS)
        if ends is None:
            raise BrokerUnavailableError(
                f"the broker at {self._settings.bootstrap_servers} does not say where its topics end"
            )
        ids = self._ids or topic_ids(self._settings, list(self._by_name))
        return {
            Source(
                self._by_name[partition.topic].name,
                ids.get(partition.topic, ""),
                partition.partition,
            ): offset
            for partition, offset in ends.items()
        }

    def has_reached(self, ends: Mapping[Source, int]) -> bool:
        """Whether `poll` has returned everything before these ends. Of a topic that was made anew
        since, they mean nothing.
        """
        positions = self._client.positions()
        return all(
            (positions.get(TopicPartition(name, source.partition)) or 0) >= end
            for source, end in ends.items()
            if self._ids.get(name := self._physical[source.topic], source.topic_id)
            == source.topic_id
        )

    def close(self) -> None:
        """Leave the group, so that others need not wait for the session's end. A consumer with an
        `instance_id` stays its member until then, so that a restart does not disturb the others.
        """
        self._client.close(autocommit=False, timeout_ms=2_000)
