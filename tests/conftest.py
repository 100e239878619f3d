"""Fixtures on running servers, and settings of every test.

One broker, one Redis and one PostgreSQL serve all tests of a process; each test has its own
`namespace` there. `make test` runs several processes, so each test has its own servers or its own
names: none depends on another test.

TEST_SERVERS names the servers: `embedded` (those of `slipstream up`, with SQLite) or `real` (those
of production).
"""

import ast
import gc
import os
import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings as property_settings
from kafka.errors import KafkaError
from pydantic import SecretStr

from bench import postgresql
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings, LakeSettings, RedisSettings
from slipstream_cli.local.processes import Child, StartError, free_port
from tests.kafka_proxy import KafkaProxy, proxied
from tests.servers import Servers, chosen, kafka_settings
from tests.servers import redis_settings as settings_of_redis
from tests.topics import delete_topics, recreate_topics

# Tests share the processors with servers and with other tests. Networks are so small here that
# several threads only wait for each other. Child processes inherit both.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline for one example: a busy machine is not a failure.
property_settings.register_profile("slipstream", deadline=None)
property_settings.load_profile("slipstream")

# Folders of tests that wait for servers more than they compute. The longest file of test-servers is
# among the faults: begun last, it would run alone in the end.
WAITING_FOLDERS = ("e2e", "faults", "integration")

if sys.version_info < (3, 11, 8):
    # CPython counts the depth of a syntax tree per interpreter. A collection inside a parse may
    # let another thread parse, and the first ends in a SystemError (python/cpython#106905).
    # Hypothesis parses a lambda to print it, and tracebacks parse their lines.
    PARSE, ONE_PARSE = ast.parse, threading.Lock()

    def parse_without_collection(*args: Any, **options: Any) -> Any:
        with ONE_PARSE:
            collects = gc.isenabled()
            gc.disable()
            try:
                return PARSE(*args, **options)
            finally:
                if collects:
                    gc.enable()

    ast.parse = parse_without_collection

OwnBroker = Callable[[], tuple[KafkaSettings, Child]]
Renewal = tuple[KafkaSettings, Callable[[], None]]
OwnRedis = Callable[[], tuple[RedisSettings, Child]]


# These need kubectl: `make manifests` runs them.
collect_ignore = ["manifests"]

SERVERS = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[SERVERS] = chosen()
    except StartError as error:
        raise pytest.UsageError(str(error)) from error
    # Tracebacks without rich, which takes seconds for one that holds a model.
    *before, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, plain])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Modules and tests stay until the end. To look through them for garbage again and again takes
    # each process seconds, here and at its end.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that wait over the run, so that others compute meanwhile, except over its
    last fifth, which would end with one long file. The whole stack is the first.
    """

    def rank(path: Path) -> int:
        folder = path.relative_to(Path(__file__).parent).parts[0]
        return WAITING_FOLDERS.index(folder) if folder in WAITING_FOLDERS else len(WAITING_FOLDERS)

    files = sorted(dict.fromkeys(item.path for item in items), key=rank)
    computing = [path for path in files if rank(path) == len(WAITING_FOLDERS)]
    waiting = files[: len(files) - len(computing)]
    places = {path: 0.8 * place / len(waiting) for place, path in enumerate(waiting)}
    places |= {path: place / len(computing) for place, path in enumerate(computing)}
    items.sort(key=lambda item: (places[item.path], rank(item.path)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    kind = item.config.stash[SERVERS].kind
    for mark in item.iter_markers("servers"):
        if kind not in mark.args:
            target = "test" if "embedded" in mark.args else "test-servers"
            pytest.skip(f"about the {' and '.join(mark.args)} servers: make {target}")


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """The kind of servers that this run is on."""
    return pytestconfig.stash[SERVERS]


@pytest.fixture
def namespace(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """A prefix that no other test uses, so that topics, keys and groups are this test's own."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    # Before the test: fixtures can't be requested after it.
    shared = (
        request.getfixturevalue("broker")
        if "broker" in request.fixturenames and servers.kind == "real"
        else None
    )
    yield name
    if shared:  # hundreds of topics would slow it down; a few that stay would not
        with suppress(KafkaError):
            delete_topics(shared, name)


@pytest.fixture(scope="session")
def broker(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """The broker that all tests share. It is up for the whole run: a test that stops one takes
    `own_broker`.
    """
    server = servers.broker(tmp_path_factory.mktemp("broker")).start()
    yield kafka_settings(servers, server)
    server.kill()


@pytest.fixture(scope="session")
def redis_settings(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisSettings]:
    """The Redis that all tests share, with an append-only file; `namespace` keeps keys apart."""
    server = servers.redis(tmp_path_factory.mktemp("redis")).start()
    yield settings_of_redis(server)
    server.kill()


@pytest.fixture(scope="session")
def redis_url(redis_settings: RedisSettings) -> str:
    """The URL of the Redis that all tests share."""
    return redis_settings.url.get_secret_value()


@pytest.fixture
def own_broker(servers: Servers, tmp_path: Path) -> Iterator[OwnBroker]:
    """Makes brokers of the test's own: `settings, server = own_broker()`, then `server.kill()`,
    `server.start()`.
    """
    started: list[Child] = []

    def make() -> tuple[KafkaSettings, Child]:
        started.append(servers.broker(tmp_path / f"broker-{len(started)}").start())
        return kafka_settings(servers, started[-1]), started[-1]

    yield make
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def broker_behind_proxy(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[KafkaSettings, KafkaProxy]]:
    """A broker that a module's tests share, reached through a proxy with rules that they set; take
    `proxied_broker`.
    """
    port = free_port()
    server = servers.broker(tmp_path_factory.mktemp("broker"), port).start()
    with proxied(port, server.port) as proxy:
        yield (
            kafka_settings(servers, server).model_copy(
                update={"bootstrap_servers": f"127.0.0.1:{port}"}
            ),
            proxy,
        )
    server.kill()


@pytest.fixture
def proxied_broker(
    broker_behind_proxy: tuple[KafkaSettings, KafkaProxy],
) -> Iterator[tuple[KafkaSettings, KafkaProxy]]:
    """A broker behind a proxy that has no rules yet: `settings, proxy = proxied_broker`."""
    yield broker_behind_proxy
    broker_behind_proxy[1].rules.clear()


@pytest.fixture(params=["broker restarted", "topics recreated"])
def renewal(
    request: pytest.FixtureRequest,
    servers: Servers,
    broker: KafkaSettings,
    own_broker: OwnBroker,
    namespace: str,
) -> Renewal:
    """A broker with the namespace's topics, and a call that renews it.

    The call kills and starts the broker, which the embedded one's records don't outlive and the
    real one's do; or it deletes the topics with all that is in them, and makes them again.
    """
    if request.param == "topics recreated":
        if servers.kind == "embedded":
            pytest.skip(
                "the embedded broker gives records by their topic's name: "
                "those of a new topic may pass for the old one's. On Kafka: make test-servers"
            )
        ensure_topics(broker, namespace)
        return broker, lambda: recreate_topics(broker, namespace)
    settings, server = own_broker()
    ensure_topics(settings, namespace)

    def restart() -> None:
        server.kill()
        server.start()
        ensure_topics(settings, namespace)

    return settings, restart


@pytest.fixture
def own_redis(servers: Servers, tmp_path: Path) -> Iterator[OwnRedis]:
    """Makes Redis servers of the test's own: `settings, server = own_redis()`, then
    `server.kill()`, `server.start()`.
    """
    started: list[Child] = []

    def make() -> tuple[RedisSettings, Child]:
        started.append(servers.redis(tmp_path / f"redis-{len(started)}").start())
        return settings_of_redis(started[-1]), started[-1]

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def lake_settings(tmp_path: Path) -> LakeSettings:
    """An empty lake in a folder of the test's own."""
    return LakeSettings(uri=str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def postgresql_for_all() -> Iterator[Child]:
    """The PostgreSQL that all tests share."""
    with postgresql.temporary_postgresql(durable=False) as server:
        yield server


@pytest.fixture
def database_settings(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path
) -> Iterator[DatabaseSettings]:
    """An empty database of the test's own: a SQLite file, or on the real servers one of
    PostgreSQL's.
    """
    if servers.kind != "real":
        yield DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'metadata.db'}"))
        return
    server = request.getfixturevalue("postgresql_for_all")
    name = f"t_{uuid.uuid4().hex[:12]}"
    yield DatabaseSettings(url=SecretStr(postgresql.create_database(server, name)))
    postgresql.drop_database(server, name)
