"""The connection to the broker: address, handshake, errors, and the arguments of the library.

Among the arguments is the partition of a key: as every Kafka client computes it, but of the part
before a separator.
"""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from kafka.errors import FencedInstanceIdError, InvalidSessionTimeoutError, KafkaError
from kafka.partitioner.default import murmur2

from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.item_patches import KEY_SEPARATOR

_CORRELATION_ID: Final = struct.pack(">i", 7)
# A request that every broker answers, before authentication too: ApiVersions v0 (10 bytes follow,
# API key 18, version 0, a correlation id, no client id).
HANDSHAKE: Final = struct.pack(">ihh", 10, 18, 0) + _CORRELATION_ID + struct.pack(">h", -1)
# Bytes of the answer that `answers_handshake` reads: its length and the correlation id.
HANDSHAKE_ANSWER_BYTES: Final = 8


class BrokerUnavailableError(DependencyUnavailableError):
    """The broker did not answer or acknowledge in time."""

    dependency = "kafka"


class NotAcknowledgedError(BrokerUnavailableError):
    """Records were sent and not acknowledged; some of them may be on the topic all the same."""


class RecordRefusedError(BrokerUnavailableError):
    """The broker answers, and will never accept one of these records: it is too large, say."""


def answers_handshake(answer: bytes) -> bool:
    """Whether an answer to `HANDSHAKE` comes from a Kafka broker: it repeats the correlation id."""
    return answer[4:HANDSHAKE_ANSWER_BYTES] == _CORRELATION_ID


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of every kafka-python client: address, security and timeouts."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 1_000,
    }
    if "SASL" in settings.security_protocol:
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if "SSL" in settings.security_protocol:
        arguments["ssl_context"] = _tls(settings.ssl_cafile)
    return arguments


def addresses(settings: KafkaSettings) -> list[tuple[str, int]]:
    """Host and port of each bootstrap server."""
    pairs = (server.strip().rpartition(":") for server in settings.bootstrap_servers.split(","))
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


async def reachable(settings: KafkaSettings, timeout_s: float = 2.0) -> None:
    """Return when a bootstrap server answers the handshake; else raise `BrokerUnavailableError`.

    Each server gets `timeout_s` seconds. A connection alone proves nothing: the kernel accepts it
    for a broker that hangs. Nor does the client's `bootstrap_connected`, which in 3.0.12 is about a
    bootstrap that is still going on.
    """
    secure = _tls(settings.ssl_cafile) if "SSL" in settings.security_protocol else None
    failure = ""
    for host, port in addresses(settings):
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=secure)
                try:
                    writer.write(HANDSHAKE)
                    if answers_handshake(await reader.readexactly(HANDSHAKE_ANSWER_BYTES)):
                        return
                    failure = "the server there is no Kafka broker"
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            failure = str(error) or f"no answer within {timeout_s:g} s"
    raise BrokerUnavailableError(
        f"no Kafka broker answers at {settings.bootstrap_servers}: {failure}"
    )


@lru_cache(1)
def _tls(cafile: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile or None)


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


_SEPARATOR = KEY_SEPARATOR.encode()
# A visitor's key comes again and again, and in Python its hash costs as much as the rest of a send.
_hash = lru_cache(65_536)(murmur2)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, among `partitions` of them.

    An item's patches have keys of their own, and follow one another in the item's partition.
    """
    return int((_hash(key.partition(_SEPARATOR)[0]) & 0x7FFFFFFF) % partitions)


def producer_arguments(settings: KafkaSettings, linger_ms: int = 1) -> dict[str, Any]:
    """Arguments of a producer that every in-sync replica acknowledges. A record may wait
    `linger_ms` for others of its batch.
    """
    return {
        **connection(settings),
        "acks": "all",
        "linger_ms": linger_ms,
        "batch_size": 131_072,
        "compression_type": "lz4",
        "max_block_ms": 2_000,
        # A topic made by accident would have the broker's default number of partitions.
        "allow_auto_create_topics": False,
        "request_timeout_ms": min(5_000, settings.delivery_timeout_ms - linger_ms - 1),
        "delivery_timeout_ms": settings.delivery_timeout_ms,
        "metrics_enabled": False,
    }


def consumer_arguments(
    settings: KafkaSettings, group: str | None, max_poll_records: int
) -> dict[str, Any]:
    """Arguments of a consumer that commits only on request. Without a group it reads alone."""
    return {
        **connection(settings),
        "group_id": group,
        "group_instance_id": (settings.instance_id or None) if group else None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": settings.fetch_max_wait_ms,
        "max_poll_records": max_poll_records,
        # What is fetched ahead of the polls, from each broker.
        "fetch_max_bytes": 2 * settings.max_poll_bytes,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": _heartbeat_ms(settings.session_timeout_ms),
        # A consumer that looked while a restarted broker had no topics yet must not wait for
        # minutes to look again.
        "metadata_max_age_ms": 5_000,
        # A topic made by accident would have the broker's default number of partitions.
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def _heartbeat_ms(session_ms: int) -> int:
    """A tenth of the session; of a short one up to a quarter, since a heartbeat costs the same."""
    return max(session_ms // 10, min(1_000, session_ms // 4))
