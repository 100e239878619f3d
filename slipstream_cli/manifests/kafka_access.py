"""Strimzi's KafkaTopics, and a KafkaUser for each service, from the table of topics."""

from collections.abc import Iterator
from typing import Final

from slipstream.broker.topics import physical, topic_configuration
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import TOPICS, Topic

# As in the settings of the base.
NAMESPACE: Final = "slipstream"
REPLICAS: Final = 3
# Services that consume in a group of their own name.
GROUPS: Final = ("features", "training", "monitoring")


def kafka_topics() -> str:
    """Generate a KafkaTopic for each topic, as YAML documents."""
    return "---\n".join(map(_topic, TOPICS))


def kafka_users() -> str:
    """Generate a KafkaUser for each service, as YAML documents."""
    return "---\n".join(map(_user, SERVICES))


def _topic(topic: Topic) -> str:
    configuration = topic_configuration(topic, REPLICAS)
    lines = [
        *_head("KafkaTopic", physical(NAMESPACE, topic)),
        f"  partitions: {topic.partitions}",
        f"  replicas: {REPLICAS}",
        "  config:",
        *(f'    {key}: "{value}"' for key, value in configuration.items()),
    ]
    return "\n".join(lines) + "\n"


def _user(service: str) -> str:
    lines = [
        *_head("KafkaUser", f"slipstream-{service}"),
        "  authentication:",
        "    type: scram-sha-512",
        "  authorization:",
        "    type: simple",
        "    acls:",
        *_acl("topic", f"{NAMESPACE}.", "prefix", "Describe, DescribeConfigs"),
    ]
    for topic in TOPICS:
        rights = [
            right
            for right, services in (("Read", topic.consumers), ("Write", topic.producers))
            if service in services
        ]
        if rights:
            lines += _acl("topic", physical(NAMESPACE, topic), "literal", ", ".join(rights))
    if service in GROUPS:
        lines += _acl("group", f"{NAMESPACE}.{service}", "literal", "Read")
    return "\n".join(lines) + "\n"


def _head(kind: str, name: str) -> tuple[str, ...]:
    return (
        "apiVersion: kafka.strimzi.io/v1",
        f"kind: {kind}",
        "metadata:",
        f"  name: {name}",
        "  labels:",
        "    strimzi.io/cluster: kafka",
        "spec:",
    )


def _acl(kind: str, name: str, pattern: str, operations: str) -> Iterator[str]:
    yield f"      - resource: {{type: {kind}, name: {name}, patternType: {pattern}}}"
    yield f"        operations: [{operations}]"
