"""librdkafka, which kcat is made of, reads a topic of the broker in a new group."""

import pytest

from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import INTERACTIONS
from tests.integration.client_environments import needs_environment, run_client
from tests.integration.shop_stream import events
from tests.servers import Servers


@needs_environment("librdkafka")
def test_a_new_group_reads_within_seconds(
    broker: KafkaSettings, namespace: str, servers: Servers, request: pytest.FixtureRequest
) -> None:
    ensure_topics(broker, namespace)
    producer = Producer(broker, namespace)
    for event in events(40, visitors=8):
        producer.send(INTERACTIONS, event.user_id, event)
    producer.flush()
    producer.close()
    topic = f"{namespace}.{INTERACTIONS.name}"
    session_ms = servers.session_timeout_ms
    run_client("librdkafka", request, broker.bootstrap_servers, topic, 40, session_ms)
