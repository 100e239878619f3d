"""A separate process of ingestion, for clients that need an address."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready

KEY = "s3cret"


@contextmanager
def ingestion_process(
    kafka: KafkaSettings, redis: RedisSettings, namespace: str, **settings: str
) -> Iterator[str]:
    """Run ingestion, and yield its URL.

    `settings` are settings of ingestion, such as `cors_origins="*"`. The write key `KEY` has the
    name `shop`.
    """
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM_")},
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SLIPSTREAM_REDIS__URL": redis.url.get_secret_value(),
        "SLIPSTREAM_NAMESPACE": namespace,
        "SLIPSTREAM_HTTP__PORT": str(port),
        "SLIPSTREAM_INGESTION__WRITE_KEYS": f"shop:{KEY}",
        **{f"SLIPSTREAM_INGESTION__{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "services", "ingestion"]
    child = Child("ingestion", port, command, is_ready, grace_s=60, environment=environment)
    try:
        child.start(60)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()
