"""kafka-python's consumer, completed. Only it and `client` use the library's private parts.

It finishes every join that it began, and reports its membership. It tells when the library leaves
a position that the log does not have any more. A poll has a limit in bytes: kafka-python has one
of records only, which may be large.

All of it relies on kafka-python 3.0.12, as `client` does.
"""

import contextlib
import time
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from slipstream.broker.client import id_text

# Records that are taken before their bytes are counted; a poll exceeds its limit by them at most.
STEP: Final = 32
# Bytes of a record besides its value: its key, its headers, its objects.
_OVERHEAD: Final = 200

# Appends records of a partition's fetch to those of the poll, up to a number; returns how many.
Append = Callable[[dict[Any, list[Any]], Any, int, bool], int]


def bounded(append: Append, max_bytes: int) -> Append:
    """Let a poll end once its records have `max_bytes`. The rest stays fetched for the next poll.
    `append` is the library's function, which a poll calls for each partition until it has enough.
    """
    room = max_bytes

    @wraps(append)
    def append_bounded(
        drained: dict[Any, list[Any]], part: Any, most: int, update_offsets: bool
    ) -> int:
        nonlocal room
        if not drained:  # a poll begins
            room = max_bytes
        taken = 0
        while taken < most and part:
            count = append(drained, part, min(STEP, most - taken), update_offsets)
            if not count:
                break
            taken += count
            fresh = drained[part.topic_partition][-count:]
            room -= sum(len(record.value or b"") + _OVERHEAD for record in fresh)
            if room <= 0:
                return most  # as if the poll had all the records that it may have
        return taken

    return append_bounded


# Longest wait for a join's end before a consumer leaves. The embedded broker holds a join for half
# a session, which is 2 s under `slipstream up`, and longer on a busy machine. A worker has 15 s to
# stop.
_JOIN_END_MS: Final = 8_000


class Membership(NamedTuple):
    """A consumer's place in its group: whether it has joined, and the seconds since the broker last
    confirmed it.
    """

    joined: bool
    silent_s: float


class ConsumerClient(KafkaConsumer):  # type: ignore[misc]
    """A consumer that completes and counts its joins.

    It reports its place in the group without asking the broker.
    """

    def __init__(self, *, max_poll_bytes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._fetcher._append = bounded(self._fetcher._append, max_poll_bytes)
        coordinator = self._coordinator
        by_library = coordinator.need_rejoin
        # A join that outlives the poll which began it is only awaited by a later poll that finds a
        # rejoin needed. The leader of a group takes the newest metadata as its own while it joins,
        # after which none may be needed: no poll takes the result, the member stays without
        # heartbeats, and the broker evicts it for good
        # (docs/upstream/kafka-python-unfinished-join.md).
        coordinator.need_rejoin = lambda: coordinator._join_task is not None or by_library()
        join_group = coordinator.join_group_async

        async def join(timeout_ms: float | None = None) -> bool:
            # A join that ends between two polls has its result thrown away: the next poll finds
            # the task done, and begins another join. Where polls alternate with questions that
            # the broker answers after the join, on the same connection, none ever counts
            # (docs/upstream/kafka-python-unfinished-join.md).
            if (ended := coordinator._join_task) is not None and ended.is_done:
                coordinator._join_task = self._manager.call_soon(_result, ended)
            return bool(await join_group(timeout_ms))

        coordinator.join_group_async = join

        coordinator.refresh_committed_offsets_if_needed_async = self._resume
        self._moved: dict[TopicPartition, int] = {}
        subscription = self._subscription
        reset, seek = subscription.request_offset_reset, subscription.seek

        def resetting(partition: TopicPartition, strategy: Any = None) -> None:
            # Only the library itself names no strategy: nothing is at the position any more.
            if strategy is None:
                note(partition)
            reset(partition, strategy)

        def seeking(partition: TopicPartition, offset: Any) -> None:
            # So the library goes back to where another leader's log parts from what was read.
            if not isinstance(offset, int):
                note(partition)
            seek(partition, offset)

        def note(partition: TopicPartition) -> None:
            if (position := subscription.assignment[partition].position) is not None:
                self._moved[partition] = position.offset

        subscription.request_offset_reset, subscription.seek = resetting, seeking

    async def _resume(self, timeout_ms: int | None = None) -> bool:
        """Begin at the committed offsets, as the library's method does, and keep their leader
        epochs, by which it finds out that another leader's log parts from what was read.
        """
        missing = set(self._subscription.missing_fetch_positions())
        try:
            committed = await self._coordinator.fetch_committed_offsets_async(
                missing, timeout_ms=timeout_ms
            )
        except KafkaTimeoutError:
            return False
        for partition, offset in committed.items():
            self.go_to(partition, offset)
        return True

    def go_to(self, partition: TopicPartition, offset: OffsetAndMetadata) -> None:
        """Read on at a committed offset, if the log is still the one that it was committed of."""
        state = self._subscription.assignment.get(partition)
        if state is not None:
            epoch = offset.leader_epoch
            state.seek(offset if epoch is not None and epoch >= 0 else offset.offset)

    def displaced(self) -> dict[TopicPartition, int]:
        """The positions that the library has left since the last call, as the log has nothing there
        or parts before them from what was read.
        """
        moved, self._moved = self._moved, {}
        return moved

    def close(self, autocommit: bool = True, timeout_ms: float | None = None) -> None:
        """Leave the group once a join that is under way has ended, after 8 s at most.

        The embedded broker admits no member to a group after one left it amid a join.
        """
        join = self._coordinator._join_task
        if join is not None and not join.is_done:
            with contextlib.suppress(KafkaError):
                self._net.run(self._manager.wait_for, join, _JOIN_END_MS)
        super().close(autocommit=autocommit, timeout_ms=timeout_ms)

    def hold_fetches(self, wait_ms: int) -> None:
        """Let the broker hold an empty fetch for so long (ms), from the next fetch on."""
        self._fetcher.config["fetch_max_wait_ms"] = wait_ms

    def pass_over(self, topics: Collection[str], passed_over: bool) -> None:
        """Fetch nothing of these topics, or fetch them again."""
        # A rebalance on the library's thread may take partitions away meanwhile.
        for partition, state in dict(self._subscription.assignment).items():
            if partition.topic in topics:
                state.paused = passed_over

    @property
    def membership(self) -> Membership:
        """Its place in the group, as far as the client knows."""
        heartbeat = self._coordinator.heartbeat
        confirmed = max(heartbeat.last_receive, heartbeat.last_reset)
        return Membership(self._coordinator.stable(), time.monotonic() - confirmed)

    def positions(self) -> dict[TopicPartition, int | None]:
        """The next offset to read of each assigned partition; None until it is known where reading
        begins.

        The library's `position` would ask the broker for those, and wait for the answer without
        limit.
        """
        # A rebalance on the library's thread may take partitions away meanwhile.
        states = dict(self._subscription.assignment)
        return {
            partition: state.position.offset if state.position else None
            for partition, state in states.items()
        }

    def forget_positions(self) -> None:
        """Let reading begin at the committed offsets when partitions are assigned next, as Java's
        client does.

        For `on_partitions_revoked`. The library keeps the position of a partition that it gets
        back, and so passes over records that were dropped when it was revoked.
        """
        self._subscription.assign_from_subscribed([])

    def committed_offsets(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """The group's committed offsets, all in one request; partitions without one are left out.
        Raises `KafkaError`.
        """
        committed = self._coordinator.fetch_committed_offsets(partitions, timeout_ms=timeout_ms)
        return {at: offset for at, offset in committed.items() if offset.offset >= 0}

    def topic_id(self, topic: str) -> str:
        """The topic's id in the newest metadata; "" where that does not have it."""
        return id_text(self._cluster.topic_id(topic))

    def partitions_known(self, topic: str) -> int:
        """Number of the topic's partitions in the newest metadata; 0 where that lacks the topic."""
        return len(self._cluster.partitions_for_topic(topic) or ())

    def learn(self, topics: list[str], timeout_ms: int) -> None:
        """Ask for the metadata of these topics, and wait for the answer. Raises `KafkaError`."""
        self._cluster.set_topics(topics)
        self.refresh_metadata(timeout_ms)

    def refresh_metadata(self, timeout_ms: int) -> None:
        """Ask for the metadata now, and wait for the answer. Raises `KafkaError`."""
        self._net.run(self._manager.wait_for, self._cluster.request_update(), timeout_ms)

    def connections(self) -> set[Any]:
        """Its present connections to brokers. A reconnect makes another object."""
        return set(self._manager._conns.values())

    def beginnings(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int] | None:
        """The oldest offset that each partition has; None when the broker does not answer."""
        try:
            return dict(self.beginning_offsets(partitions, timeout_ms=timeout_ms))
        except (KafkaError, KeyError):
            return None

    def ends(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int] | None:
        """The present end offset of each partition; None when the broker does not answer."""
        try:
            ends = self.end_offsets(partitions, timeout_ms=timeout_ms)
        # 3.0.12 raises KeyError for a topic that a restarted broker does not have yet.
        except (KafkaError, KeyError):
            return None
        states = dict(self._subscription.assignment)
        # Of its newest batch of records the embedded broker counts only the first here; a fetch
        # brings the true end.
        return {
            partition: max(
                int(end), (states[partition].highwater or 0) if partition in states else 0
            )
            for partition, end in ends.items()
        }


async def _result(ended: Any) -> Any:
    """The result of a future, as that of a task which has yet to run."""
    return await ended
