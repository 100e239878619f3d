"""Records on compacted topics, which outlive the database."""

import time
from collections.abc import Iterator
from typing import Any, Final

from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic

_PATIENCE_S: Final = 120.0


def records_of(kafka: KafkaSettings, namespace: str, topic: Topic) -> list[Any]:
    """All records of a topic, in the order of each partition.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    batches = batches_of(kafka, namespace, topic)
    return [message.record for batch in batches for message in batch.messages]


def batches_of(kafka: KafkaSettings, namespace: str, topic: Topic) -> Iterator[Batch]:
    """The records of a topic up to its present end, in the order of each partition.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    consumer = Consumer(kafka, namespace, [topic], group=None)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        ends = consumer.ends()
        while not consumer.has_reached(ends):
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(f"the broker does not send {topic.name}")
            if batch := consumer.poll(0.5):
                deadline = time.monotonic() + _PATIENCE_S
                yield batch
    finally:
        consumer.close()
