"""Apache Kafka, Redis and PostgreSQL as installed on this machine."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import apache_kafka, postgresql
from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.local.processes import Child, StartError, free_port
from slipstream_cli.local.servers import START_S, redis_answers, redis_arguments, version_of

_REDIS = "redis-server"
_GET_REDIS = "Debian, Ubuntu: apt-get install redis-server"


def redis(port: int, directory: Path) -> Child:
    """Build a Redis with an append-only file in `directory`, which it reads again at a start."""
    command = [_redis_binary(), *redis_arguments(port, directory)]
    return Child("redis", port, command, redis_answers, grace_s=10.0, start_s=START_S)


def absent(environment: Mapping[str, str], *, sql: bool = True) -> list[str]:
    """List the servers that are not installed, each with the way to get it.

    Without `sql`, PostgreSQL is not looked for.
    """
    missing = []
    if apache_kafka.home_of(environment) is None:
        missing.append(f"Apache Kafka: {apache_kafka.HOW_TO_GET}")
    if apache_kafka.java() is None:
        missing.append(f"Java, for Kafka: {apache_kafka.HOW_TO_GET_JAVA}")
    if shutil.which(_REDIS) is None:
        missing.append(f"Redis: {_GET_REDIS}")
    if sql and postgresql.binaries() is None:
        missing.append(f"PostgreSQL: {postgresql.HOW_TO_GET}")
    return missing


def kafka_home(environment: Mapping[str, str], *, sql: bool = True) -> Path:
    """Return Kafka's distribution, once all servers are known to be installed.

    Raises:
        StartError: Some are absent; the text lists them.
    """
    home, missing = apache_kafka.home_of(environment), absent(environment, sql=sql)
    if home is None or missing:
        raise StartError("real servers are not installed here:\n  " + "\n  ".join(missing))
    return home


def versions(home: Path, *, sql: bool = True) -> str:
    """Name the servers with their versions."""
    names = [f"Apache Kafka {apache_kafka.version(home)}", f"Redis {version_of(_redis_binary())}"]
    return ", ".join([*names, f"PostgreSQL {postgresql.version()}"] if sql else names)


def settings(brokers: Sequence[Child], redis_server: Child, database: str = "") -> dict[str, str]:
    """Build the environment that points services at these servers.

    `database` is a URL; empty for SQLite.
    """
    return {
        EXTERNAL["broker"]: ",".join(broker.address for broker in brokers),
        "SLIPSTREAM_KAFKA__REPLICATION_FACTOR": str(min(len(brokers), 3)),
        EXTERNAL["valkey"]: f"redis://{redis_server.address}/0",
        **({"SLIPSTREAM_DATABASE__URL": database} if database else {}),
    }


@contextmanager
def running(home: Path, *, sql: bool) -> Iterator[dict[str, str]]:
    """Run Kafka, Redis and, with `sql`, PostgreSQL for the block; yield their `settings`.

    Their data is in a temporary folder.
    """
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="slipstream-servers-"))
        )
        broker = apache_kafka.kafka(home, free_port(), directory)
        redis_server = redis(free_port(), directory / "redis")
        for server in (broker, redis_server):
            stack.callback(server.kill)
            server.start()
        database = ""
        if sql:
            database = postgresql.create_database(
                stack.enter_context(postgresql.temporary_postgresql(durable=True)), "slipstream"
            )
        yield settings([broker], redis_server, database)


def _redis_binary() -> str:
    binary = shutil.which(_REDIS)
    if binary is None:
        raise StartError(f"Redis is not installed; {_GET_REDIS}")
    return binary
