"""Two processes of a service that acts once only: one waits, and takes over."""

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from bench import postgresql
from services.monitoring.alert_repository import streaks_table
from slipstream.broker.consumer import Consumer
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import ALERTS
from slipstream.stores.metadata import engine
from slipstream_cli.local.processes import Child
from tests.integration.launched_services import PATIENCE_S, Launch, answer, lines
from tests.integration.test_lost_lease import Instance
from tests.integration.test_monitoring import Peers, peers
from tests.unit.training.challengers import bundle, result_of
from tests.waiting import until

__all__ = ["peers"]

pytestmark = pytest.mark.servers("real")
# Of each service, a path that it answers.
READS = {"training": "/v1/runs", "monitoring": "/v1/alerts"}


@pytest.fixture(params=["postgresql", "sqlite"])
def database(
    request: pytest.FixtureRequest, database_settings: DatabaseSettings, tmp_path: Path
) -> DatabaseSettings:
    if request.param == "postgresql":
        return database_settings
    return DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'sql' / 'metadata.db'}"))


@pytest.fixture
def shared(broker: KafkaSettings, namespace: str, database: DatabaseSettings) -> dict[str, str]:
    """Settings of both instances."""
    return settings(broker, namespace, database.url.get_secret_value())


def settings(broker: KafkaSettings, namespace: str, url: str, **more: str) -> dict[str, str]:
    return {
        "namespace": namespace,
        "kafka__bootstrap_servers": broker.bootstrap_servers,
        "kafka__session_timeout_ms": str(broker.session_timeout_ms),
        "database__url": url,
        **more,
    }


def is_ready(child: Child) -> bool:
    return answer(child, "/health/ready").status_code == 200


def stands_by(child: Child) -> bool:
    return bool(answer(child, "/health/ready").json()["down"] == ["lease"])


def log_of(folder: Path) -> str:
    return "\n".join(path.read_text()[-2_000:] for path in folder.glob("*.log"))


def stop_between_transactions(pid: int, database: DatabaseSettings) -> None:
    """Stop a process. In a transaction it would lock SQLite's file, and no instance could act."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        os.kill(pid, signal.SIGSTOP)
        path = make_url(database.url.get_secret_value()).database or ""
        if not Path(path).is_file():  # PostgreSQL ends such a transaction
            return
        try:
            with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            assert time.monotonic() < deadline
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)


@pytest.mark.parametrize("service", READS)
def test_a_second_one_waits_alive_and_takes_over_within_30_s_of_a_kill(
    launch: Launch, shared: dict[str, str], service: str, tmp_path: Path
) -> None:
    # Half the default, since a busy machine takes long to open what the second one needs.
    shared |= {"database__lease_s": "8"}
    first = launch(service, log="first", **shared)
    until(lambda: is_ready(first), lambda: log_of(tmp_path))
    second = launch(service, log="second", **shared)
    until(lambda: stands_by(second), lambda: log_of(tmp_path))
    assert answer(second, "/health/live").status_code == 200
    assert answer(second, "/metrics").status_code == 200
    refused = answer(second, READS[service])
    assert (refused.status_code, refused.json()["code"]) == (503, "standby")
    assert answer(first, READS[service]).status_code == 200

    first.kill()
    killed = time.monotonic()
    until(lambda: is_ready(second), lambda: log_of(tmp_path))
    print(f"{service}: ready {time.monotonic() - killed:.1f} s after the kill")
    assert time.monotonic() - killed < 30
    assert answer(second, READS[service]).status_code == 200

    third = launch(service, log="third", **shared)
    until(lambda: stands_by(third), lambda: log_of(tmp_path))
    second.terminate()
    stopped = time.monotonic()
    until(lambda: is_ready(third), lambda: log_of(tmp_path))
    print(f"{service}: ready {time.monotonic() - stopped:.1f} s after the stop")
    assert [entry for entry in lines(tmp_path, "third") if entry["event"] == "standing by"]


def test_a_stopped_monitoring_alerts_nothing_twice_and_ends_when_it_goes_on(
    launch: Launch,
    shared: dict[str, str],
    database: DatabaseSettings,
    broker: KafkaSettings,
    namespace: str,
    peers: Peers,
    tmp_path: Path,
) -> None:
    shared |= {f"peers__{name}_url": peers.url for name in SERVICES}
    shared |= {
        "database__lease_s": "10",
        "monitoring__check_interval_s": "0.3",
        # A peer that answers late would be "away", and an open alert be told again.
        "monitoring__probe_timeout_s": "30",
        "monitoring__failing_checks_to_open": "30",
    }
    db = engine(database)

    def failing() -> int:
        with db.connect() as connection:
            return connection.scalar(select(func.max(streaks_table.c.failing))) or 0

    first = launch("monitoring", log="first", **shared)
    until(lambda: is_ready(first), lambda: log_of(tmp_path))
    second = launch("monitoring", log="second", **shared)
    until(lambda: stands_by(second), lambda: log_of(tmp_path))
    # Only now, however long that took: the first instance's alert must not open yet.
    peers.answers["/health/ready"] = 503, {"checks": {"disk": "full"}, "started_at": 0}
    until(lambda: failing() > 0, lambda: log_of(tmp_path))
    assert first.process is not None
    stop_between_transactions(first.process.pid, database)
    assert failing() < 30, "it was stopped too late for this test"
    until(lambda: is_ready(second), lambda: log_of(tmp_path))
    until(
        lambda: bool(answer(second, "/v1/alerts").json()["items"]), lambda: log_of(tmp_path)
    )  # the streak of the first went on
    os.kill(first.process.pid, signal.SIGCONT)
    until(lambda: not first.alive, lambda: log_of(tmp_path))
    assert first.status == 1
    (reason,) = [e["reason"] for e in lines(tmp_path, "first") if e["level"] == "critical"]
    assert reason == "another instance of monitoring has taken the lease"

    kept = answer(second, "/v1/alerts").json()["items"]
    assert len({alert["rule"] for alert in kept}) == len(kept)
    heard: Counter[tuple[str, str]] = Counter()
    consumer = Consumer(broker, namespace, [ALERTS], group=None)
    until(
        lambda: _hear(consumer, heard) >= {(alert["alert_id"], "opened") for alert in kept},
        lambda: (kept, heard),
    )
    consumer.close()
    db.dispose()
    assert max(heard.values()) == 1
    until(lambda: is_ready(second), lambda: log_of(tmp_path))


def _hear(consumer: Consumer, heard: Counter[tuple[str, str]]) -> set[tuple[str, str]]:
    heard.update((m.record.alert_id, m.record.state) for m in consumer.poll(0.5).messages)
    return set(heard)


def test_a_stopped_training_promotes_nothing_when_it_goes_on(
    launch: Launch, shared: dict[str, str], database: DatabaseSettings, tmp_path: Path
) -> None:
    before = Instance(database, tmp_path)
    before.take()
    before.publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    before.publisher.publish("b", bundle(tmp_path, "b"), result_of(popularity=-0.05))
    before.lease.release()
    before.engine.dispose()
    shared |= {"database__lease_s": "10"}

    first = launch("training", log="first", **shared)
    until(lambda: is_ready(first), lambda: log_of(tmp_path))
    second = launch("training", log="second", **shared)
    until(lambda: stands_by(second), lambda: log_of(tmp_path))
    assert first.process is not None
    stop_between_transactions(first.process.pid, database)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(_promote, first, "b")
        until(lambda: is_ready(second), lambda: log_of(tmp_path))
        os.kill(first.process.pid, signal.SIGCONT)
        assert late.result() in (503, 0)
    until(lambda: not first.alive, lambda: log_of(tmp_path))
    assert first.status == 1
    assert answer(second, "/v1/aliases/champion").json()["version"] == "a"
    assert _promote(second, "b") == 200


def _promote(child: Child, version: str) -> int:
    """The status of the answer; 0 where the connection broke."""
    url = f"http://{child.address}/v1/models/{version}:promote"
    try:
        return httpx.post(url, timeout=120).status_code
    except httpx.TransportError:
        return 0


@pytest.fixture
def own_postgresql() -> Iterator[Child]:
    with postgresql.temporary_postgresql(durable=True) as server:
        yield server


def test_a_database_that_is_away_for_longer_than_the_lease_changes_no_holder(
    launch: Launch, broker: KafkaSettings, namespace: str, own_postgresql: Child, tmp_path: Path
) -> None:
    url = postgresql.create_database(own_postgresql, "shop")
    shared = settings(broker, namespace, url, database__lease_s="15")
    first = launch("monitoring", log="first", **shared)
    until(lambda: is_ready(first), lambda: log_of(tmp_path))
    second = launch("monitoring", log="second", **shared)
    until(lambda: stands_by(second), lambda: log_of(tmp_path))
    own_postgresql.kill()
    until(
        lambda: answer(second, "/health/ready").json()["down"] == ["database"],
        lambda: log_of(tmp_path),
    )
    time.sleep(16)  # longer than the lease
    assert not is_ready(first) and not is_ready(second)
    own_postgresql.start()
    until(lambda: is_ready(first) and stands_by(second), lambda: log_of(tmp_path))
    assert first.alive and second.alive
