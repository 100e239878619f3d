"""The connection to the broker: its address, its handshake, its errors, and their explanations."""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from kafka.errors import FencedInstanceIdError, InvalidSessionTimeoutError, KafkaError

from slipstream.chassis.dependencies import DependencyUnavailableError, RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings

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
