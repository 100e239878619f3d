"""A session of Kafka's admin client, for questions about topics and groups."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError

from slipstream.broker.client import AdminClient
from slipstream.broker.kafka import BrokerUnavailableError, connection
from slipstream.chassis.settings import KafkaSettings


@contextmanager
def admin_session(settings: KafkaSettings, failed: str) -> Iterator[AdminClient]:
    """An admin client that is closed at the end of the block.

    Raises `BrokerUnavailableError` for Kafka's errors. `failed` begins its text: the question or
    change that failed.
    """
    try:
        admin = AdminClient(**connection(settings))
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"no Kafka broker answers at {settings.bootstrap_servers}: {error}"
        ) from error
    try:
        yield admin
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"{failed} at {settings.bootstrap_servers}: {error}"
        ) from error
    finally:
        admin.close()
