"""The standing of a consumer: how far it has read, and how far its topics reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kafka import TopicPartition
from kafka.errors import KafkaError

from slipstream.broker.consumer_client import ConsumerClient
from slipstream.contracts.topics import Topic

# How long the broker may take to answer for the ends of topics.
ANSWER_MS: Final = 2_000
# The same for a consumer outside its group. A join that waits for the next poll must not wait for
# longer than a session.
_OUTSIDE_ANSWER_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a consumer stands in its assigned partitions, as the broker says now.

    Args:
        partitions: Of each assigned partition the next offset to read, and its present end.
        lag: Records between the two, by topic; 0 for a topic of which the group's other members
            have all partitions. Of a consumer that is outside its group, the records that the whole
            group has not committed: it may be the only member. None when the broker does not
            answer for those.
    """

    partitions: Mapping[TopicPartition, tuple[int, int]]
    lag: dict[str, int] | None

    @property
    def beyond_an_end(self) -> bool:
        """Whether more was read of a partition than it has: its topic was recreated."""
        return any(position > end for position, end in self.partitions.values())


def standing_of(
    client: ConsumerClient,
    topics: Mapping[str, Topic],
    partitions: Sequence[TopicPartition],
    *,
    grouped: bool,
) -> Standing | None:
    """The standing of a client's consumer; None when the broker does not answer, or when it is not
    yet known where reading begins.

    The client's memory of its fetches would cost nothing, but it has only the partitions that it
    has come to: of a backlog it holds a small part.
    """
    positions = client.positions()
    known = {partition: offset for partition, offset in positions.items() if offset is not None}
    if len(known) < len(positions):
        return None
    ends = client.ends(list(known), ANSWER_MS) if known else {}
    if ends is None:
        return None
    assigned = {partition: (known[partition], end) for partition, end in ends.items()}
    if not assigned and grouped and not client.membership.joined:
        return Standing({}, _lag(_uncommitted(client, partitions), topics))
    return Standing(assigned, _lag(assigned, topics))


def _lag(
    standing: Mapping[TopicPartition, tuple[int, int]] | None, topics: Mapping[str, Topic]
) -> dict[str, int] | None:
    if standing is None:
        return None
    lag = {topic.name: 0 for topic in topics.values()}
    for partition, (position, end) in standing.items():
        lag[topics[partition.topic].name] += max(0, end - position)
    return lag


def _uncommitted(
    client: ConsumerClient, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]] | None:
    """The group's committed offset and the end of each partition; None without an answer."""
    try:
        committed = client.committed_offsets(list(partitions), _OUTSIDE_ANSWER_MS)
    except KafkaError:
        return None
    ends = client.ends(list(partitions), _OUTSIDE_ANSWER_MS)
    if ends is None:
        return None
    begun = {partition: offset.offset for partition, offset in committed.items()}
    return {partition: (begun.get(partition, 0), end) for partition, end in ends.items()}
