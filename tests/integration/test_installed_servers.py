"""The installed servers: they start where they should, keep what they acknowledged, and say what is
missing.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from bench import apache_kafka, installed_servers, postgresql
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import TOPICS
from slipstream_cli.local.processes import Child, StartError, free_port, is_free, start_together

pytestmark = pytest.mark.servers("real")


@pytest.fixture
def started() -> Iterator[list[Child]]:
    """Servers that are killed after the test."""
    servers: list[Child] = []
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, as the server's must."""
    with tempfile.TemporaryDirectory(prefix="slipstream-postgresql-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def kafka_home() -> Path:
    home = apache_kafka.home_of(os.environ)
    assert home is not None
    return home


def told(server: Child, namespace: str) -> dict[str, str] | None:
    try:
        return ids(server, namespace)
    except BrokerUnavailableError:
        return None


def ids(server: Child, namespace: str) -> dict[str, str]:
    return topic_ids(
        KafkaSettings(bootstrap_servers=server.address),
        [physical(namespace, topic) for topic in TOPICS],
    )


def test_kafka_takes_topics_once_it_answers_and_keeps_them_through_a_kill_and_a_stop(
    tmp_path: Path, namespace: str, started: list[Child]
) -> None:
    started.append(server := apache_kafka.kafka(kafka_home(), free_port(), tmp_path))
    ensure_topics(KafkaSettings(bootstrap_servers=server.start().address), namespace)
    made = ids(server, namespace)
    assert len(made) == len(TOPICS)
    server.kill()
    assert not server.answers()
    server.start()
    assert ids(server, namespace) == made
    assert server.stop()
    assert ids(server.start(), namespace) == made


def test_kafka_cluster_takes_topics_of_three_replicas_and_goes_on_without_one_node(
    tmp_path: Path, namespace: str, started: list[Child]
) -> None:
    nodes = apache_kafka.kafka_cluster(kafka_home(), [free_port() for _ in range(3)], tmp_path)
    started += nodes
    start_together(nodes)
    ensure_topics(
        KafkaSettings(bootstrap_servers=nodes[0].address, replication_factor=3), namespace
    )
    made = ids(nodes[1], namespace)
    assert len(made) == len(TOPICS)
    nodes[0].kill()
    deadline = time.monotonic() + 60
    while (
        told(nodes[1], namespace) != made
    ):  # until the others know that it is gone, clients may be sent to it
        assert time.monotonic() < deadline, "two nodes of three do not go on"
        time.sleep(0.2)
    nodes[0].start()
    assert ids(nodes[0], namespace) == made


def test_redis_keeps_what_it_acknowledged_after_a_crash(
    tmp_path: Path, started: list[Child]
) -> None:
    started.append(server := installed_servers.redis(free_port(), tmp_path))
    for expected in (None, b"1"):
        server.start()
        with redis.Redis(port=server.port) as client:
            assert client.get("seen") == expected
            client.set("seen", "1")
            assert client.info("server")["executable"].endswith("redis-server")
        server.kill()
        assert not server.answers()


def start_again(server: Child) -> None:
    """Start a PostgreSQL that was killed. Its children may still hold its memory for a moment, and
    it refuses to start until then.
    """
    deadline = time.monotonic() + 60
    while True:
        try:
            server.start()
        except StartError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def test_postgresql_keeps_databases_until_they_are_dropped(
    open_folder: Path, started: list[Child]
) -> None:
    started.append(server := postgresql.postgresql(free_port(), open_folder, durable=False).start())
    url = postgresql.create_database(server, "one")
    plain = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain) as connection:
        connection.execute("CREATE TABLE kept (number int)")
    held = psycopg.connect(plain)
    server.kill()
    start_again(server)
    held.close()
    with psycopg.connect(plain) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    with psycopg.connect(plain):  # whoever still uses it
        postgresql.drop_database(server, "one")
    with pytest.raises(StartError, match=r'dropdb failed.*database "one" does not exist'):
        postgresql.drop_database(server, "one")
    with psycopg.connect(postgresql.create_database(server, "two").replace("+psycopg", "")):
        assert server.stop(), "clients are sent away"


def test_all_of_them_run_for_one_command_and_are_gone_after_it() -> None:
    with installed_servers.running(kafka_home(), sql=True) as settings:
        broker = settings["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
        ensure_topics(KafkaSettings(bootstrap_servers=broker), "slipstream")
        with redis.Redis.from_url(settings["SLIPSTREAM_REDIS__URL"]) as client:
            assert f"Redis {client.info('server')['redis_version']}" in installed_servers.versions(
                kafka_home()
            )
        database = settings["SLIPSTREAM_DATABASE__URL"].replace("+psycopg", "")
        with psycopg.connect(database) as connection:
            number = connection.info.server_version
        assert installed_servers.versions(kafka_home()).endswith(
            f"PostgreSQL {number // 10_000}.{number % 10_000}"
        )
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database)
    assert is_free(int(broker.rpartition(":")[2]))


def test_postgresql_says_why_it_cannot_make_its_files(open_folder: Path) -> None:
    (open_folder / "data").mkdir()
    (open_folder / "data" / "other").touch()
    with pytest.raises(StartError, match=r"PostgreSQL's initdb failed: .*exists but is not empty"):
        postgresql.postgresql(free_port(), open_folder)
