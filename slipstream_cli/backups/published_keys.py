"""Access keys on their topic, which outlives the database."""

import time
from typing import Final

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import AccessKey
from slipstream.contracts.topics import ACCESS_KEYS

_PATIENCE_S: Final = 60.0


def published_keys(kafka: KafkaSettings, namespace: str) -> list[AccessKey]:
    """The newest state of each access key on the topic.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    consumer = Consumer(kafka, namespace, [ACCESS_KEYS], group=None)
    newest: dict[str, AccessKey] = {}
    deadline = time.monotonic() + _PATIENCE_S
    try:
        ends = consumer.ends()
        while not consumer.has_reached(ends):
            if time.monotonic() > deadline:
                raise BrokerUnavailableError("the broker does not send the access keys")
            for message in consumer.poll(0.5).messages:
                newest[message.record.digest] = message.record
    finally:
        consumer.close()
    return list(newest.values())
