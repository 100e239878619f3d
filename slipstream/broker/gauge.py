"""The gauge of topics and groups: how far topics reach, and how far groups have read them.

It asks the broker alone, so its figures are the same whichever replica of a service is looked at.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from slipstream.broker.consumer import TopicPartitions
from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.kafka import BrokerUnavailableError, consumer_arguments
from slipstream.broker.standing import ANSWER_MS
from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic

# Offsets by the name of a topic and the number of a partition.
Offsets = Mapping[str, Mapping[int, int]]


class Gauged(NamedTuple):
    """The offsets of one moment. `committed` has those of each group, of partitions with any."""

    ends: Offsets
    beginnings: Offsets
    committed: Mapping[str, Offsets]


class LogGauge:
    """Reads offsets over connections that stay open. Not thread-safe."""

    def __init__(
        self,
        settings: KafkaSettings,
        namespace: str,
        topics: Sequence[Topic],
        groups: Sequence[str],
    ) -> None:
        """Connects, or raises `BrokerUnavailableError`. It is no member of the groups."""
        self._settings = settings
        self._by_name = {physical(namespace, topic): topic for topic in topics}
        self._clients = dict[str, ConsumerClient]()
        try:
            for group in groups:
                arguments = consumer_arguments(settings, f"{namespace}.{group}", 1)
                self._clients[group] = ConsumerClient(
                    max_poll_bytes=settings.max_poll_bytes, **arguments
                )
            self._log = self._clients[groups[0]]
            self._log.learn(list(self._by_name), ANSWER_MS)
        except KafkaError as error:
            self.close()
            raise self._unavailable() from error

    def read(self) -> Gauged:
        """The offsets now. Raises `BrokerUnavailableError`."""
        partitions = TopicPartitions(self._log, self._by_name).all()
        ends = self._log.ends(partitions, ANSWER_MS)
        beginnings = self._log.beginnings(partitions, ANSWER_MS)
        if ends is None or beginnings is None:
            raise self._unavailable()
        try:
            committed = {
                group: client.committed_offsets(partitions, ANSWER_MS)
                for group, client in self._clients.items()
            }
        except (KafkaError, KeyError) as error:
            raise self._unavailable() from error
        return Gauged(
            self._by_topic(ends),
            self._by_topic(beginnings),
            {
                group: self._by_topic({at: each.offset for at, each in offsets.items()})
                for group, offsets in committed.items()
            },
        )

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            with suppress(KafkaError):
                client.close(autocommit=False, timeout_ms=ANSWER_MS)

    def _by_topic(self, offsets: Mapping[TopicPartition, int]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for partition, offset in offsets.items():
            name = self._by_name[partition.topic].name
            found.setdefault(name, {})[partition.partition] = int(offset)
        return found

    def _unavailable(self) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"the broker at {self._settings.bootstrap_servers} does not tell offsets"
        )
