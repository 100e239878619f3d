"""Failures of a consumer's client, in the words of an operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import FencedInstanceIdError, InvalidSessionTimeoutError, KafkaError

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings


@contextmanager
def translated(settings: KafkaSettings, group: str | None) -> Iterator[None]:
    """Within the block, a group that takes another consumer instead, or refuses its settings, says
    so; other failures of Kafka are `BrokerUnavailableError`.
    """
    try:
        yield
    except InvalidSessionTimeoutError as error:
        raise RefusedSettingsError(
            "the broker refuses "
            f"SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS={settings.session_timeout_ms}: "
            "it takes what lies between its group.min.session.timeout.ms (6000 by default) "
            "and group.max.session.timeout.ms (1800000)"
        ) from error
    except FencedInstanceIdError as error:
        raise BrokerUnavailableError(
            f"another consumer of the group {group} took over the name {settings.instance_id}: "
            "give each replica a SLIPSTREAM_KAFKA__INSTANCE_ID of its own"
        ) from error
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"{settings.bootstrap_servers} can't be read from: {error}"
        ) from error
