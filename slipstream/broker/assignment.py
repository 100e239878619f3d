"""The partitions of a consumer's topics, as the broker has them now."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import InvalidMetadataError

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.contracts.topics import Topic

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
