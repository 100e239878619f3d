"""The servers that production runs on, as this machine has them installed: Redis, and which of all are absent."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from services.standalone import apache_kafka, postgresql
from services.standalone.processes import Child, StartError
from services.standalone.servers import redis_answers, redis_arguments

_REDIS = "redis-server"
_GET_REDIS = "Debian, Ubuntu: apt-get install redis-server"


def redis(port: int, directory: Path, *, output: int | IO[bytes] = subprocess.DEVNULL) -> Child:
    """A Redis that keeps an append-only file in `directory`, and goes on from the one that it finds there."""
    binary = shutil.which(_REDIS)
    if binary is None:
        raise StartError(f"Redis is not installed; {_GET_REDIS}")
    return Child("redis", port, [binary, *redis_arguments(port, directory)], redis_answers, grace_s=10.0, output=output)


def absent(environment: Mapping[str, str]) -> list[str]:
    """The servers that can't be started here, each with the way to get it; empty when Kafka, Redis and PostgreSQL can be."""
    missing = []
    if apache_kafka.home_of(environment) is None:
        missing.append(f"Apache Kafka: {apache_kafka.HOW_TO_GET}")
    if apache_kafka.java() is None:
        missing.append(f"Java, for Kafka: {apache_kafka.HOW_TO_GET_JAVA}")
    if shutil.which(_REDIS) is None:
        missing.append(f"Redis: {_GET_REDIS}")
    if postgresql.binaries() is None:
        missing.append(f"PostgreSQL: {postgresql.HOW_TO_GET}")
    return missing
