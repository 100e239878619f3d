"""Topics of tests: delete and recreate them, find their leaders, a group's uncommitted records,
and the records that one of its members reads.
"""

import time
from collections.abc import Sequence

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import KafkaError

from slipstream.broker.kafka import connection
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import TOPICS, Topic

LIMIT_S = 60.0


def delete_topics(settings: KafkaSettings, namespace: str) -> None:
    """Delete the namespace's topics, and return at once: the broker may still be at it."""
    admin = KafkaAdminClient(**connection(settings))
    try:
        if names := _topics(admin, namespace):
            admin.delete_topics(names, raise_errors=False)  # one may be gone meanwhile
    finally:
        admin.close()


def recreate_topics(settings: KafkaSettings, namespace: str) -> None:
    """Delete the namespace's topics with their records, and make them again with new ids.

    Services that run may make them first.
    """
    names = [physical(namespace, topic) for topic in TOPICS]
    before = topic_ids(settings, names)
    delete_topics(settings, namespace)
    deadline = time.monotonic() + LIMIT_S
    while left := before.items() & topic_ids(settings, names).items():
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
    ensure_topics(settings, namespace)


def keep_records_for(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic], retention_ms: int
) -> None:
    """Have these topics keep records no longer than this, also what a compacted one would keep."""
    configs = {
        "retention.ms": str(retention_ms),
        "cleanup.policy": "delete",
        "file.delete.delay.ms": "100",
    }
    admin = KafkaAdminClient(**connection(settings))
    try:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, physical(namespace, topic), configs)
                for topic in topics
            ]
        )
    finally:
        admin.close()


def leaders(settings: KafkaSettings, name: str) -> set[int]:
    """The ids of the brokers that lead partitions of this topic; empty without an answer."""
    try:
        admin = KafkaAdminClient(**connection(settings))
    except KafkaError:
        return set()
    try:
        return {
            partition["leader_id"]
            for topic in admin.describe_topics([name])
            for partition in topic["partitions"]
            if partition["leader_id"] >= 0
        }
    except KafkaError:
        return set()
    finally:
        admin.close()


def uncommitted(settings: KafkaSettings, group: str, names: Sequence[str]) -> int:
    """The records of these topics that lie behind what the group has committed."""
    admin = KafkaAdminClient(**connection(settings))
    try:
        partitions = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in admin.describe_topics(list(names))
            for partition in topic["partitions"]
        ]
        ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        committed = admin.list_group_offsets(group)[group]
        return sum(
            end.offset - max(0, committed[partition].offset if partition in committed else 0)
            for partition, end in ends.items()
        )
    finally:
        admin.close()


def partitions_of(settings: KafkaSettings, group: str, instance_id: str) -> set[tuple[str, int]]:
    """The topics and numbers of the partitions that a member of the group has; empty while the
    group deals them out.
    """
    admin = KafkaAdminClient(**connection(settings))
    try:
        return {
            (topic["topic"], number)
            for member in admin.describe_groups([group])[group]["members"]
            if member["group_instance_id"] == instance_id and member["member_assignment"]
            for topic in member["member_assignment"]["assigned_partitions"]
            for number in topic["partitions"]
        }
    finally:
        admin.close()


def _topics(admin: KafkaAdminClient, namespace: str) -> list[str]:
    return [name for name in admin.list_topics() if name.startswith(f"{namespace}.")]
