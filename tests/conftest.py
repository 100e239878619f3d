"""Fixtures on the real servers: one embedded broker and one Valkey for the whole run, told apart by `namespace`."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.standalone import servers
from services.standalone.processes import Child, free_port
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings, LakeSettings, RedisSettings

# As the program itself has it (services/__main__.py): tests that train a network share the processors with servers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OwnBroker = Callable[[], tuple[KafkaSettings, Child]]
OwnRedis = Callable[[], tuple[RedisSettings, Child]]


def _kafka_settings(server: Child) -> KafkaSettings:
    # The embedded broker holds a group's first join for half of the session timeout.
    return KafkaSettings(bootstrap_servers=server.address, session_timeout_ms=2_000)


def _redis_settings(server: Child) -> RedisSettings:
    return RedisSettings(url=SecretStr(f"redis://{server.address}/0"))


@pytest.fixture
def namespace() -> str:
    """A prefix that no other test uses, so that topics, keys and groups are this test's own."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaSettings]:
    """The broker that all tests share. It is up for the whole run: a test that stops one takes `own_broker`."""
    server = servers.broker(free_port()).start()
    yield _kafka_settings(server)
    server.kill()


@pytest.fixture(scope="session")
def redis_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """The Valkey that all tests share, with an append-only file; keys are told apart by `namespace`."""
    server = servers.valkey(free_port(), tmp_path_factory.mktemp("valkey")).start()
    yield _redis_settings(server)
    server.kill()


@pytest.fixture(scope="session")
def redis_url(redis_settings: RedisSettings) -> str:
    """The URL of the Valkey that all tests share."""
    return redis_settings.url.get_secret_value()


@pytest.fixture
def own_broker() -> Iterator[OwnBroker]:
    """Makes brokers of the test's own: `settings, server = own_broker()`, then `server.kill()`, `server.start()`."""
    started: list[Child] = []

    def make() -> tuple[KafkaSettings, Child]:
        started.append(servers.broker(free_port()).start())
        return _kafka_settings(started[-1]), started[-1]

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """Makes Valkeys of the test's own: `settings, server = own_redis()`, then `server.kill()`, `server.start()`."""
    started: list[Child] = []

    def make() -> tuple[RedisSettings, Child]:
        started.append(servers.valkey(free_port(), tmp_path / f"valkey-{len(started)}").start())
        return _redis_settings(started[-1]), started[-1]

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def lake_settings(tmp_path: Path) -> LakeSettings:
    """An empty lake in a folder of the test's own."""
    return LakeSettings(uri=str(tmp_path / "lake"))


@pytest.fixture
def database_settings(tmp_path: Path) -> DatabaseSettings:
    """An empty SQLite database of the test's own."""
    return DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'metadata.db'}"))
