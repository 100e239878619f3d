"""The topics on the broker: create missing ones, compare existing ones, and look up their ids."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, for_code

from slipstream.broker.client import admin_session
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import TOPICS, Topic

# Milliseconds that a new topic may take to have a leader for each partition.
_LEADERS_MS: Final = 10_000
# Replicas that must have a record before it is acknowledged, of topics that have more than these.
IN_SYNC: Final = 2


def physical(namespace: str, topic: Topic) -> str:
    """The topic's name on the broker."""
    return f"{namespace}.{topic.name}"


def ensure_topics(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic] = TOPICS
) -> None:
    """Create the missing topics, and return when each partition has a leader.

    Existing topics are left as they are. Several services may call this at once. Raises
    `BrokerUnavailableError` when no broker answers, or a topic can't be created.
    """
    wanted = {physical(namespace, topic): topic for topic in topics}
    with admin_session(settings, "topics could not be created") as admin:
        existing = set(admin.list_topics())
        new = [
            NewTopic(
                name,
                min(topic.partitions, settings.max_partitions),
                settings.replication_factor,
                topic_configs=dict(topic_configuration(topic, settings.replication_factor)),
            )
            for name, topic in wanted.items()
            if name not in existing
        ]
        if new:
            answer = admin.create_topics(new, raise_errors=False)
            for made in answer["topics"]:
                error = for_code(made["error_code"])
                if made["error_code"] and error is not TopicAlreadyExistsError:
                    raise error(f"{made['name']}: {made.get('error_message') or error.description}")
        try:
            admin.wait_for_topics(list(wanted), timeout_ms=_LEADERS_MS)
        except KafkaTimeoutError as error:
            raise BrokerUnavailableError(
                f"topics have no leader at {settings.bootstrap_servers}: {error}"
            ) from error


def topic_differences(
    settings: KafkaSettings, namespace: str, topics: Sequence[Topic] = TOPICS
) -> list[str]:
    """Compare existing topics with their declarations; returns a line for each difference.

    The line says how to mend it. Configurations that the broker does not show, at all or to this
    user, are not compared. Raises `BrokerUnavailableError`.
    """
    wanted = {physical(namespace, topic): topic for topic in topics}
    with admin_session(settings, "topics could not be compared") as admin:
        described = admin.describe_topics(list(wanted))
        present = {
            entry["name"]: [len(partition["replica_nodes"]) for partition in entry["partitions"]]
            for entry in described
            if not entry["error_code"]
        }
        # All settings: the embedded broker hangs up on a request that names some.
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
        try:
            configured = admin.describe_configs(asked, config_filter="all").get("topic", {})
        except KafkaError:
            configured = {}
    return [
        difference
        for name, topic in wanted.items()
        for difference in (
            *_layout_differences(name, topic, present.get(name, ()), settings),
            *_setting_differences(
                name,
                topic_configuration(topic, settings.replication_factor),
                configured.get(name) or {},
            ),
        )
    ]


def topic_ids(settings: KafkaSettings, names: Sequence[str]) -> dict[str, str]:
    """The broker's id of each topic that exists. Raises `BrokerUnavailableError`.

    A topic that was deleted and made again has another id, which tells its offsets from those of
    the old topic.
    """
    with admin_session(settings, "topics could not be looked up") as admin:
        return {
            entry["name"]: str(entry["topic_id"])
            for entry in admin.describe_topics(list(names))
            if not entry["error_code"]
        }


def topic_configuration(topic: Topic, replicas: int) -> Mapping[str, str]:
    """The settings of a topic with this number of replicas.

    With three or more, what is acknowledged is on two of them, so that losing any one loses
    nothing. A replica that lacks acknowledged records never leads.
    """
    if topic.retention_ms is None:
        kept = {"cleanup.policy": "compact"}
    else:
        policy = "compact,delete" if topic.compacted else "delete"
        kept = {"cleanup.policy": policy, "retention.ms": str(topic.retention_ms)}
    in_sync = {"min.insync.replicas": str(IN_SYNC)} if replicas > IN_SYNC else {}
    return {**kept, **in_sync, "unclean.leader.election.enable": "false"}


def _layout_differences(
    name: str, topic: Topic, replicas: Sequence[int], settings: KafkaSettings
) -> Iterator[str]:
    """Differences of an existing topic's partitions, of which `replicas` has the replicas of each;
    empty for a topic that does not exist.
    """
    partitions, wanted = min(topic.partitions, settings.max_partitions), settings.replication_factor
    if replicas and len(replicas) != partitions:
        found = f"{name} has {len(replicas)} partitions, and {partitions} are wanted"
        if topic.compacted:
            found += (
                ": leave it so. The topic is compacted, and with more partitions the newest record "
                "of a key would lie in another one than those before. Added ones are not used"
            )
        elif len(replicas) < partitions:
            found += f": kafka-topics.sh --alter --topic {name} --partitions {partitions}"
        yield found
    if replicas and min(replicas) < wanted:
        yield (
            f"{name} has {min(replicas)} replicas, and {wanted} are wanted: give it more with "
            "kafka-reassign-partitions.sh, or set SLIPSTREAM_KAFKA__REPLICATION_FACTOR to "
            f"{min(replicas)}"
        )


def _setting_differences(
    name: str, wanted: Mapping[str, str], configured: Mapping[str, Any]
) -> Iterator[str]:
    for key, value in wanted.items():
        present = (configured.get(key) or {}).get("value")
        if present is not None and present != value:
            mend = (
                "kafka-configs.sh --alter --entity-type topics "
                f"--entity-name {name} --add-config {key}={value}"
            )
            yield f"{name} has {key}={present}, and {value} is wanted: {mend}"
