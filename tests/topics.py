"""Topics that go, and topics that are made anew under their old names."""

import time

from kafka import KafkaAdminClient

from slipstream.broker.kafka import connection
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings

LIMIT_S = 60.0


def delete_topics(settings: KafkaSettings, namespace: str) -> None:
    """Delete the namespace's topics, and return at once: the broker may still be at it."""
    admin = KafkaAdminClient(**connection(settings))
    try:
        if names := _topics(admin, namespace):
            admin.delete_topics(names)
    finally:
        admin.close()


def make_topics_anew(settings: KafkaSettings, namespace: str) -> None:
    """Delete the namespace's topics with all that is in them, and make them again: they have new ids."""
    delete_topics(settings, namespace)
    admin = KafkaAdminClient(**connection(settings))
    deadline = time.monotonic() + LIMIT_S
    try:
        while names := _topics(admin, namespace):
            assert time.monotonic() < deadline, f"still there: {names}"
            time.sleep(0.05)
    finally:
        admin.close()
    ensure_topics(settings, namespace)


def _topics(admin: KafkaAdminClient, namespace: str) -> list[str]:
    return [name for name in admin.list_topics() if name.startswith(f"{namespace}.")]
