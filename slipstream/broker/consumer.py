"""A consumer reads records: in a group that shares the partitions, or all from the beginning.

It follows the broker's list of partitions, waits at a pace that spares the broker, and asks how
many members its group has.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka import ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    InvalidMetadataError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
)

from slipstream.broker.client import admin_session
from slipstream.broker.consumer_client import ConsumerClient, Membership
from slipstream.broker.kafka import BrokerUnavailableError, consumer_arguments, translated
from slipstream.broker.log_changes import Epochs, Incarnations, LogFault, LogFaults
from slipstream.broker.records import Batch
from slipstream.broker.standing import ANSWER_MS, Standing, standing_of
from slipstream.broker.topics import physical, topic_ids
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import Topic

# Seconds without a record of others than unhurried topics, after which the broker holds an empty
# fetch for longer: for twice the set time, and this at least (ms). The embedded broker answers a
# fetch only when its time ends, so the first click after a rest waits for as long.
REST_AFTER_S: Final = 10.0
REST_WAIT_MS: Final = 200
# What a poll at rest waits beyond that: one that gave up on its fetch would only begin again (ms).
_ANSWER_LATE_MS: Final = 50
# Seconds between two readings of unhurried topics, unless this many records came: more may wait.
UNHURRIED_EVERY_S: Final = 1.0
_BACKLOG: Final = 1_000


class Pace:
    """Polls a client. An empty fetch costs both sides a millisecond of processor time, and a batch
    of few records as much as one of many.
    """

    def __init__(self, client: ConsumerClient, wait_ms: int, unhurried: Collection[str]) -> None:
        """Args:
        wait_ms: How long the broker may hold an empty fetch while records come.
        unhurried: Topics, by their names on the broker, that are read once a second.
        """
        self._client, self._wait_ms, self._unhurried = client, wait_ms, unhurried
        self._rest_at = time.monotonic() + REST_AFTER_S
        self._resume_at: float | None = None

    def poll(self, timeout_ms: float) -> Mapping[Any, list[Any]]:
        """The next records by partition; none after `timeout_ms`, at rest when the broker answers.

        Raises `KafkaError`.
        """
        now, wait_ms = time.monotonic(), self._wait_ms
        if now >= self._rest_at:
            wait_ms = max(2 * wait_ms, REST_WAIT_MS)
            timeout_ms = max(timeout_ms, wait_ms + _ANSWER_LATE_MS)
        if self._resume_at is not None and now >= self._resume_at:
            self._client.pass_over(self._unhurried, False)
            self._resume_at = None
        self._client.hold_fetches(wait_ms)
        polled: Mapping[Any, list[Any]] = self._client.poll(timeout_ms)
        now = time.monotonic()
        unhurried = [len(new) for at, new in polled.items() if at.topic in self._unhurried]
        if len(unhurried) < len(polled):
            self._rest_at = now + REST_AFTER_S
        if unhurried and sum(unhurried) < _BACKLOG:
            self._client.pass_over(self._unhurried, True)
            self._resume_at = now + UNHURRIED_EVERY_S
        return polled


# A partition by the topic's name on the broker and its number.
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group at a moment when it was not rebalancing; during a rebalance it has no members here.

    `assigned` holds the partitions of the members; None where the broker does not report them, as
    the embedded one.
    """

    members: int
    assigned: frozenset[Partition] | None

    def is_full(self, partitions: Collection[Partition]) -> bool:
        """Whether one of its members may rightly have none of these partitions.

        Without reported assignments, that is so when the group has more members than any topic has
        partitions: the range assignor leaves some members without any then.
        """
        if self.assigned is not None:
            return self.assigned.issuperset(partitions)
        return self.members > max((number + 1 for _, number in partitions), default=0)


def describe_group(settings: KafkaSettings, group: str) -> GroupDescription:
    """Ask the broker for a group; one that does not exist has no members.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    with admin_session(settings, f"the group {group} could not be looked up") as admin:
        description = admin.describe_groups([group])[group]
    if description["group_state"] != "Stable":
        return GroupDescription(0, frozenset())
    members = description["members"]
    assignments = [member["member_assignment"] for member in members if member["member_assignment"]]
    if members and not assignments:
        return GroupDescription(len(members), None)
    return GroupDescription(
        len(members),
        frozenset(
            (topic["topic"], number)
            for assignment in assignments
            for topic in assignment["assigned_partitions"]
            for number in topic["partitions"]
        ),
    )


# How long the broker may take to tell the partitions of topics.
_ANSWER_MS = 5_000


class TopicPartitions:
    """The partitions of topics, by the client's newest metadata. The polling thread uses it.

    A topic that the metadata lack has those that it had before, or those of its declaration.
    """

    def __init__(self, client: ConsumerClient, topics: Mapping[str, Topic]) -> None:
        """Of these topics by their names on the broker, for this client of a consumer."""
        self._client, self._topics = client, topics
        self._numbers = {name: topic.partitions for name, topic in topics.items()}

    def all(self) -> list[TopicPartition]:
        """Every partition of every topic."""
        for name in self._topics:
            self._numbers[name] = self._client.partitions_known(name) or self._numbers[name]
        return [
            TopicPartition(name, number)
            for name, numbers in self._numbers.items()
            for number in range(numbers)
        ]

    def assign(self) -> None:
        """Ask the broker for the partitions, and read all of them from their beginnings. Raises
        `KafkaError`.
        """
        with contextlib.suppress(InvalidMetadataError):  # a topic does not exist yet
            self._client.learn(list(self._topics), _ANSWER_MS)
        self._client.assign(self.all())

    def follow(self) -> None:
        """Read partitions that were added meanwhile, too, from their beginnings."""
        present = self.all()
        if len(present) != len(self._client.assignment()):
            self._client.assign(present)


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Calls back when partitions are assigned, and when they are revoked or lost."""

    def __init__(self, assigned: Callable[[], None], revoked: Callable[[], None]) -> None:
        self._assigned, self._revoked = assigned, revoked

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self._assigned()

    def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        self._revoked()

    def on_partitions_lost(self, lost: Any) -> None:  # noqa: ARG002
        self._revoked()


log = get_logger(__name__)

# How long the broker may take to accept a commit.
_COMMIT_MS: Final = 10_000


class Consumer:
    """Reads topics at least once, in order within a partition.

    A topic that was recreated meanwhile is read from its beginning; the embedded broker forgets
    everything when it stops. Not thread-safe: poll, commit and close in one thread.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        namespace: str,
        topics: Sequence[Topic],
        group: str | None,
        *,
        max_poll_records: int = 2_000,
        unhurried: Collection[Topic] = (),
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        """Connects, or raises `BrokerUnavailableError`.

        Args:
            group: Group of members that share the partitions. Reading goes on from its committed
                offsets, or from the beginning where there is none. None reads every partition from
                its beginning, and commits nothing.
            max_poll_records: Records that one `poll` returns at most.
            unhurried: Topics of these that are read once a second, so that their records don't
                wake a caller that waits for others.
            on_revoked: Runs on the client's thread before partitions are given away. It must be
                quick, since no heartbeat goes out meanwhile, and it can't commit. Afterwards every
                partition, also a kept one, is read from its committed offset.
        """
        self._settings = settings
        self._on_revoked = on_revoked
        self._by_name = {physical(namespace, topic): topic for topic in topics}
        self._physical = {topic.name: name for name, topic in self._by_name.items()}
        self.group = f"{namespace}.{group}" if group else None
        # Calls of `poll` until now.
        self.polls = 0
        try:
            arguments = consumer_arguments(settings, self.group, max_poll_records)
            self._client = ConsumerClient(max_poll_bytes=settings.max_poll_bytes, **arguments)
            self._pace = Pace(
                self._client,
                settings.fetch_max_wait_ms,
                {physical(namespace, topic) for topic in unhurried},
            )
            self._incarnations = Incarnations(settings, self._client, self._by_name)
            self._faults, self._epochs = LogFaults(self._client, self._by_name), Epochs()
            self._partitions = TopicPartitions(self._client, self._by_name)
            if group:
                self._client.subscribe(
                    list(self._by_name), listener=RebalanceListener(self._assigned, self._revoked)
                )
            else:
                self._partitions.assign()
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {settings.bootstrap_servers}: {error}"
            ) from error

    def poll(self, timeout_s: float) -> Batch:
        """The next records, or an empty batch after `timeout_s`, at rest when the broker answers.

        Raises:
            RefusedSettingsError: The broker refuses this consumer's settings.
            BrokerUnavailableError: Another consumer has this one's `instance_id`, or reading fails.
        """
        self.polls += 1
        if self.group is None:
            self._partitions.follow()
        polled = self._poll(timeout_s)
        incarnations = self._incarnations
        untrusted: Collection[str] = ()
        if suspect := self._faults.suspect():
            incarnations.doubt()
        if incarnations.doubtful(polled):
            try:
                untrusted = self._learn_ids()
            except BrokerUnavailableError:
                incarnations.lose(partition.topic for partition in polled)
                untrusted = incarnations.missing
        if suspect:
            self._faults.explain()
        batch = Batch()
        for partition, records in polled.items():
            if partition.topic in untrusted:
                # A missing topic may come back as it was, so its records are read again.
                if partition.topic in incarnations.missing:
                    self._client.seek(partition, records[0].offset)
                continue
            topic = self._by_name[partition.topic]
            topic_id = incarnations.ids[partition.topic]
            source = Source(topic.name, topic_id, partition.partition)
            self._epochs.note(partition, batch.add(topic, source, records))
            incarnations.advance(partition, records[-1].offset + 1)
        return batch

    def commit(self, next_offsets: Mapping[Source, int]) -> bool:
        """Commit that everything before these offsets has had its effect.

        Returns False when the partitions now belong to another member, or the broker is
        unavailable. The records are read again then, which is harmless, since effects are applied
        once. Without a group there is nothing to commit.

        Offsets of a topic that was recreated meanwhile are left out: in the new topic they would
        skip unread records.

        Raises:
            BrokerUnavailableError: Another consumer has this one's `instance_id`.
        """
        if not next_offsets or self.group is None:
            return True
        incarnations = self._incarnations
        try:
            self._client.refresh_metadata(ANSWER_MS)
            if incarnations.doubtful({}):
                self._learn_ids()
        except (BrokerUnavailableError, KafkaError):
            incarnations.doubt()
            return False
        offsets = {
            partition: OffsetAndMetadata(offset, "", self._epochs.before(partition, offset))
            for partition, offset in incarnations.by_partition(next_offsets).items()
        }
        if not offsets:
            return True
        with translated(self._settings, self.group):
            try:
                self._client.commit(offsets, timeout_ms=_COMMIT_MS)
            except (
                CommitFailedError,
                RebalanceInProgressError,
                KafkaTimeoutError,
                KafkaConnectionError,
            ):
                return False
        return True

    def rewind(self, at_the_latest: Mapping[Source, int] | None = None) -> None:
        """Read again from the group's committed offsets, or from the beginning where it has none;
        sources in `at_the_latest` from there at the latest. Raises `BrokerUnavailableError`.
        """
        self._incarnations.forget_offsets()
        assigned = list(self._client.assignment())
        with translated(self._settings, self.group):
            committed = self._client.committed_offsets(assigned, ANSWER_MS) if assigned else {}
        limits = self._incarnations.by_partition(at_the_latest or {})
        for partition in assigned:
            if partition in committed:
                offset = committed[partition]
                if (limit := limits.get(partition, offset.offset)) < offset.offset:
                    self._client.seek(partition, limit)
                else:
                    self._client.go_to(partition, offset)
            else:
                self._client.seek_to_beginning(partition)

    def positions(self) -> dict[Source, int]:
        """The next offset to read of each assigned partition, as far as that is known."""
        return self._incarnations.by_source(self._client.positions())

    def topic_ids(self) -> dict[str, str]:
        """The present id of each topic, by its name.

        It is empty while a topic is missing, outside the group, and until the broker has told the
        ids again after a rebalance or a `rewind`.
        """
        return self._incarnations.known if self._client.membership.joined else {}

    def faults(self) -> list[LogFault]:
        """What was found since the last call of records that are not on the topics any more."""
        return self._faults.take()

    @property
    def membership(self) -> Membership | None:
        """Its place in the group, as far as the client knows; None without a group."""
        return self._client.membership if self.group else None

    def standing(self) -> Standing | None:
        """Its positions, the ends of its topics and its lag. None when the broker does not answer,
        or when it is not yet known where reading begins.
        """
        grouped = self.group is not None
        standing = standing_of(self._client, self._by_name, self._partitions.all(), grouped=grouped)
        if standing is not None and standing.beyond_an_end:
            # A topic may have been recreated so quickly that nothing else showed it.
            self._incarnations.doubt()
        return standing

    def remaining(self) -> int | None:
        """Records that are still to be read, of all topics; None when the broker does not answer,
        and while no partition is assigned.
        """
        standing = self.standing() if self._client.assignment() else None
        if standing is None or standing.lag is None:
            return None
        return sum(standing.lag.values())

    def may_be_spare(self) -> bool:
        """Whether it may rightly have no partition, since its group is full. Raises
        `BrokerUnavailableError`.
        """
        partitions = [(place.topic, place.partition) for place in self._partitions.all()]
        return describe_group(self._settings, self.group or "").is_full(partitions)

    def ends(self) -> dict[Source, int]:
        """The present end of each assigned partition. Raises `BrokerUnavailableError` when the
        broker does not answer.
        """
        ends = self._client.ends(list(self._client.assignment()), ANSWER_MS)
        if ends is None:
            raise BrokerUnavailableError(
                f"the broker at {self._settings.bootstrap_servers} does not tell the ends of topics"
            )
        ids = self._incarnations.ids or topic_ids(self._settings, list(self._by_name))
        return {
            Source(self._by_name[name].name, ids.get(name, ""), partition): offset
            for (name, partition), offset in ends.items()
        }

    def has_reached(self, ends: Mapping[Source, int]) -> bool:
        """Whether `poll` has returned everything before these ends.

        Ends of a topic that was recreated since are ignored.
        """
        positions, ids = self._client.positions(), self._incarnations.ids
        return all(
            (positions.get(TopicPartition(name, source.partition)) or 0) >= end
            for source, end in ends.items()
            if ids.get(name := self._physical[source.topic], source.topic_id) == source.topic_id
        )

    def close(self) -> None:
        """Leave the group, so that others need not wait for the session's end. A consumer with an
        `instance_id` stays its member until then, so that a restart does not disturb the others.
        """
        self._client.close(autocommit=False, timeout_ms=2_000)

    def _assigned(self) -> None:
        self._incarnations.forget_offsets()

    def _revoked(self) -> None:
        self._incarnations.forget_offsets()
        self._on_revoked()
        self._client.forget_positions()

    def _poll(self, timeout_s: float) -> Mapping[Any, list[Any]]:
        with translated(self._settings, self.group):
            return self._pace.poll(timeout_s * 1000)

    def _learn_ids(self) -> set[str]:
        """Learn the topics' ids; returns topics with records in hand that can't be given a source.

        A topic that was recreated is read from its beginning: the records in hand may come from
        either incarnation, and reading again is harmless.
        """
        renewed = self._incarnations.learn()
        again = [partition for partition in self._client.assignment() if partition.topic in renewed]
        if again:
            log.warning(
                "topics were recreated; reading them from the beginning", topics=sorted(renewed)
            )
            self._client.seek_to_beginning(*again)
        untrusted = renewed | self._incarnations.missing
        # The library's thread has fetched on from positions in the old topic until here.
        self._faults.excuse(untrusted)
        return untrusted
