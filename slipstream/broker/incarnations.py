"""The incarnations of a consumer's topics: which ids they have, and whether those still hold.

A client fetches by a topic's name. A topic that was deleted and made again has another id under the
same name, and its records must not be taken for those of the old one.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import TopicPartition

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.topics import topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source, id_of_log
from slipstream.contracts.topics import Topic


class Incarnations:
    """The ids of a consumer's topics as last learned. `doubt` may come from any thread; the rest
    belongs to the polling thread.
    """

    def __init__(
        self, settings: KafkaSettings, client: ConsumerClient, topics: Mapping[str, Topic]
    ) -> None:
        """Of these topics by their names on the broker, for this client of a consumer."""
        self._settings, self._client, self._topics = settings, client, topics
        self._names = {topic.name: name for name, topic in topics.items()}
        # Each topic's id as last seen; a topic that the broker does not have now keeps it.
        self.ids: dict[str, str] = {}
        # Topics that the broker did not have when it was last asked.
        self.missing: set[str] = set()
        # The offset behind the last record that was read of each partition.
        self._next: dict[TopicPartition, int] = {}
        # The leader epoch at which the log of each partition parted last from what was read.
        self._parted: dict[TopicPartition, int] = {}
        self._connections: set[Any] = set()
        self._doubt = threading.Event()
        self._doubt.set()

    def doubt(self) -> None:
        """Have the ids looked up before anything more is read."""
        self._doubt.set()

    def lose(self, names: Iterable[str]) -> None:
        """Count these topics as missing, and all ids as doubtful: the broker did not answer."""
        self.missing = set(names)
        self._doubt.set()

    def forget_offsets(self) -> None:
        """Expect any offset next: partitions were assigned, or are read again."""
        self._next.clear()

    def advance(self, partition: TopicPartition, next_offset: int) -> None:
        """Note that a partition was read up to `next_offset`."""
        self._next[partition] = next_offset

    def doubtful(self, polled: Mapping[TopicPartition, list[Any]]) -> bool:
        """Whether the ids may have changed, so that these records would get a wrong `Source`.

        After a broker that keeps nothing has restarted, the client goes on in the middle of the new
        topic until the group has rebalanced; new connections give it away. A topic that was deleted
        and made again shows in the metadata.
        """
        connections = self._client.connections()
        reconnected = not connections <= self._connections
        self._connections = connections
        renewed = any(
            self._client.topic_id(name) not in ("", topic_id) for name, topic_id in self.ids.items()
        )
        if self._doubt.is_set() or reconnected or renewed:
            self._doubt.clear()
            return True
        return any(
            records[0].offset < self._next.get(partition, 0)
            for partition, records in polled.items()
        )

    def learn(self) -> set[str]:
        """Ask the broker for the ids; returns the topics that were recreated since.

        One that the broker does not have now is `missing`, and may be back with the same id in a
        moment. Raises `BrokerUnavailableError`.
        """
        present = topic_ids(self._settings, list(self._topics))
        renewed = {
            name for name, topic_id in present.items() if self.ids.get(name, topic_id) != topic_id
        }
        self.ids |= present
        self.missing = self._topics.keys() - present.keys()
        if self.missing:
            self._doubt.set()
        for noted in (self._next, self._parted):
            for partition in [partition for partition in noted if partition.topic in renewed]:
                del noted[partition]
        return renewed

    def by_source(self, offsets: Mapping[TopicPartition, int | None]) -> dict[Source, int]:
        """These offsets by source, without the unknown ones."""
        return {
            Source(self._topics[name].name, self.ids[name], partition): offset
            for (name, partition), offset in offsets.items()
            if offset is not None and name in self.ids
        }

    def by_partition(self, offsets: Mapping[Source, int]) -> dict[TopicPartition, int]:
        """These offsets by partition, without those of earlier incarnations and missing topics.

        Once an offset of a log that parted has come, those of lost records are left out, too.
        """
        by_partition = {}
        for source, offset in offsets.items():
            name = self._names[source.topic]
            partition = TopicPartition(name, source.partition)
            if name in self.missing or self.ids.get(name) != id_of_log(source.topic_id):
                continue
            if source.parted_at >= self._parted.get(partition, -1):
                self._parted[partition] = source.parted_at
                by_partition[partition] = offset
        return by_partition
