"""`make restarts`: services that are killed and started again must read again by themselves, also
where joining their groups takes long.

Four services run on servers of their own, each killed over and over. The time is taken until each
has read a new record.
"""

import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import click
import httpx
from pydantic import SecretStr
from sqlalchemy import Engine, exists, select

from services.monitoring.slate_tables import answers
from services.training.migrations import MIGRATIONS
from services.training.repository import Repository
from services.training.waiting_alert_repository import WaitingAlerts
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings
from slipstream.contracts.events import AlertEvent, CatalogRecord, Interaction, Severity, Slate
from slipstream.contracts.topics import ALERTS, CATALOG, INTERACTIONS, RECOMMENDATIONS
from slipstream.stores import metadata
from slipstream.stores.migrations import migrate
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready
from tests.kafka_proxy import Api, KafkaProxy, Rule, proxied
from tests.servers import Servers, chosen, database, kafka_settings, redis_settings

NAMES: Final = ("features", "training", "monitoring", "serving")
_START_S: Final = 90.0
# Long enough to outlive the time of any poll, as an answer that comes late by a garbage collection
# or a retransmission does.
_HELD_S: Final = 0.3


class Reader(NamedTuple):
    """A service that reads.

    `record` makes a record of an unused name; `has_read` says whether it had effect.
    """

    service: str
    record: Callable[[str], OutgoingRecord]
    has_read: Callable[[str], bool]


def _features(url: str) -> Reader:
    """The visitor of a new event has features."""

    def record(name: str) -> OutgoingRecord:
        event = Interaction(
            event_id=name,
            event_type="view",
            user_id=name,
            item_id="i",
            timestamp=_now(),
            received_at=_now(),
        )
        return OutgoingRecord(INTERACTIONS, name, event)

    return Reader("features", record, lambda name: _found(f"{url}/v1/features/visitor/{name}"))


def _serving(url: str) -> Reader:
    """A new item of the catalogue is known. Its reader has no group, and starts over each time."""

    def record(name: str) -> OutgoingRecord:
        return OutgoingRecord(
            CATALOG, f"item:{name}", CatalogRecord(entity="item", entity_id=name, timestamp=_now())
        )

    return Reader("serving", record, lambda name: _found(f"{url}/v1/similar/{name}"))


def _monitoring(engine: Engine) -> Reader:
    """A new slate is in the sums of answers."""

    def record(name: str) -> OutgoingRecord:
        slate = Slate(
            recommendation_id=name,
            user_id=name,
            timestamp=_now(),
            items=[],
            answered_by="none",
            model_version=name,
        )
        return OutgoingRecord(RECOMMENDATIONS, name, slate)

    def has_read(name: str) -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(select(exists().where(answers.c.model_version == name))))

    return Reader("monitoring", record, has_read)


def _training(engine: Engine) -> Reader:
    """A new alert waits for its run. A run has ended just now, so that no alert starts one within
    the cooldown.
    """
    migrate(engine, MIGRATIONS)
    alerts, runs = WaitingAlerts(engine), Repository(engine)
    runs.add("before", "request", "the run before", "fast")
    runs.start("before")
    runs.finish("before", "failed", error="made for the test")

    def record(name: str) -> OutgoingRecord:
        alert = AlertEvent(
            alert_id=name,
            rule=name,
            severity=Severity.WARNING,
            state="opened",
            summary="",
            action="retrain",
            timestamp=_now(),
        )
        return OutgoingRecord(ALERTS, name, alert)

    return Reader(
        "training", record, lambda name: any(alert.rule == name for alert in alerts.all())
    )


def _found(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _now() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Case:
    """`plain` restarts of each service, every other one at once and the rest after its session has
    ended; then `held` ones with late answers to SyncGroup. `instance_ids` says whether services are
    static members of their groups. A service that has not read within `limit_s` does not read.
    """

    plain: int
    held: int
    instance_ids: bool = False
    limit_s: float = 15.0


@dataclass
class Result:
    """Seconds from each start until a new record had its effect, by service and kind of restart;
    None: not within the limit.
    """

    case: Case
    seconds: dict[str, dict[str, list[float | None]]] = field(
        default_factory=lambda: {name: {"at once": [], "later": [], "held": []} for name in NAMES}
    )

    @property
    def faults(self) -> list[str]:
        """Restarts after which a service did not read, in words."""
        return [
            f"{name}: {took.count(None)} of {len(took)} restarts ({kind}) "
            f"had not read a new record within {self.case.limit_s:g} s"
            for name, kinds in self.seconds.items()
            for kind, took in kinds.items()
            if None in took
        ]

    def table(self) -> str:
        """One line a service: how many restarts read again, and the median and slowest of each
        kind.
        """
        lines = []
        for name, kinds in self.seconds.items():
            done = [seconds for took in kinds.values() for seconds in took if seconds is not None]
            parts = [f"{kind} {_spread(took)}" for kind, took in kinds.items() if took]
            lines.append(
                f"{name:<12} {len(done)} of {sum(map(len, kinds.values()))}   " + "   ".join(parts)
            )
        return "\n".join(lines)


def _spread(took: list[float | None]) -> str:
    done = sorted(seconds for seconds in took if seconds is not None)
    return f"{done[len(done) // 2]:.1f} s (slowest {done[-1]:.1f})" if done else "never"


def run(
    case: Case, directory: Path, servers: Servers, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Run the case on servers in `directory`, and stop everything at the end.

    `progress` is called at each restart.
    """
    result = Result(case)
    with _bed(servers, directory, case) as (bed, proxy):
        # All services have done their plain restarts when the proxy begins to hold.
        hold = threading.Barrier(
            len(NAMES), lambda: proxy.rules.append(Rule(Api.SYNC_GROUP, hold_s=_HELD_S, spare=1))
        )
        # A child dies with the thread that started it: each service has one thread until the end.
        threads = [
            threading.Thread(target=_restart, args=(bed, name, hold, result, progress))
            for name in NAMES
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return result


@dataclass
class _Bed:
    children: Mapping[str, Child]
    readers: Mapping[str, Reader]
    publish: Callable[[Reader, str], None]
    session_s: float


def _restart(
    bed: _Bed, name: str, hold: threading.Barrier, result: Result, progress: Callable[[str], None]
) -> None:
    """Kill and start one service as often as the case says."""
    case, later_s = result.case, bed.session_s + 1.0
    kinds = ["at once" if turn % 2 == 0 else "later" for turn in range(case.plain)] + [
        "held"
    ] * case.held
    for turn, kind in enumerate(kinds):
        if turn == case.plain:
            hold.wait()
        bed.children[name].kill()
        time.sleep(0.0 if kind == "at once" else later_s)
        seconds = _until_read(bed, name, case.limit_s)
        result.seconds[name][kind].append(seconds)
        progress(
            f"{name} ({kind}): "
            + ("did not read" if seconds is None else f"read after {seconds:.1f} s")
        )


def _until_read(bed: _Bed, name: str, limit_s: float) -> float | None:
    """Start a service; the seconds until it has read a record that is sent now, None past
    `limit_s`.
    """
    bed.children[name].launch()
    started = time.monotonic()
    record = f"r-{uuid.uuid4().hex[:12]}"
    bed.publish(bed.readers[name], record)
    while not bed.readers[name].has_read(record):
        if time.monotonic() - started > limit_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - started


@contextmanager
def _bed(servers: Servers, directory: Path, case: Case) -> Iterator[tuple[_Bed, KafkaProxy]]:
    with ExitStack() as stack:
        proxy_port = free_port()
        broker = stack.enter_context(_running(servers.broker(directory / "broker", proxy_port)))
        redis = stack.enter_context(_running(servers.redis(directory / "redis")))
        url = stack.enter_context(database(servers, directory))
        proxy = stack.enter_context(proxied(proxy_port, broker.port))
        kafka = kafka_settings(servers, broker).model_copy(
            update={"bootstrap_servers": f"127.0.0.1:{proxy_port}"}
        )
        ensure_topics(kafka, "slipstream")
        engine = metadata.engine(DatabaseSettings(url=SecretStr(url)))
        stack.callback(engine.dispose)
        producer = Producer(kafka, "slipstream")
        stack.callback(producer.close)
        environment = _environment(
            kafka, redis_settings(redis).url.get_secret_value(), url, directory, case
        )
        children = {name: _service(name, environment, directory) for name in NAMES}
        followed = {
            "features": _features(f"http://{children['features'].address}"),
            "serving": _serving(f"http://{children['serving'].address}"),
            "monitoring": _monitoring(engine),
            "training": _training(engine),
        }
        for child in children.values():
            child.launch()
            stack.callback(child.kill)
        _await_ready(children)

        def publish(reader: Reader, name: str) -> None:
            topic, key, record, request_id = reader.record(name)
            assert record is not None and not isinstance(record, bytes)
            producer.send(topic, key, record, request_id)

        yield _Bed(children, followed, publish, kafka.session_timeout_ms / 1000), proxy


@contextmanager
def _running(server: Child) -> Iterator[Child]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _environment(
    kafka: KafkaSettings, redis: str, database_url: str, directory: Path, case: Case
) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM_")},
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
        "SLIPSTREAM_KAFKA__INSTANCE_ID": "replica-0" if case.instance_ids else "",
        "SLIPSTREAM_REDIS__URL": redis,
        "SLIPSTREAM_DATABASE__URL": database_url,
        "SLIPSTREAM_LAKE__URI": str(directory / "lake"),
        "SLIPSTREAM_ARTIFACTS__DIRECTORY": str(directory / "models"),
        "SLIPSTREAM_SERVING__CACHE_DIR": str(directory / "serving"),
        # Serving has no address of training.
        "SLIPSTREAM_SERVING__REQUIRE_MODEL": "false",
        # Alerts wait in a table, where it is seen that they came.
        "SLIPSTREAM_TRAINING__COOLDOWN_MINUTES": "1000",
        "SLIPSTREAM_TRAINING__NEW_EVENTS": "0",
    }


def _service(name: str, environment: Mapping[str, str], directory: Path) -> Child:
    port = free_port()
    with (directory / f"{name}.log").open("ab") as log:
        return Child(
            name,
            port,
            [sys.executable, "-m", "services", name],
            is_ready,
            environment={**environment, "SLIPSTREAM_HTTP__PORT": str(port)},
            grace_s=15,
            output=os.dup(log.fileno()),
        )


def _await_ready(children: Mapping[str, Child]) -> None:
    deadline = time.monotonic() + _START_S
    while waiting := [name for name, child in children.items() if not child.answers()]:
        assert time.monotonic() < deadline, f"not ready: {waiting}"
        time.sleep(0.2)


@click.command()
@click.option(
    "--plain",
    type=int,
    default=30,
    show_default=True,
    help="Restarts of each service, half at once, half later.",
)
@click.option(
    "--held",
    type=int,
    default=6,
    show_default=True,
    help="Restarts more with late answers to SyncGroup.",
)
@click.option(
    "--instance-ids", is_flag=True, help="Make the services static members of their groups."
)
def main(plain: int, held: int, instance_ids: bool) -> None:
    """Kill each service that reads from the broker, start it again, and wait until it has read a
    new record.

    The servers are those that TEST_SERVERS names: embedded, or real.

    \b
    Example:  make restarts RESTARTS_ARGS="--plain 4 --held 0"
    """
    servers = chosen()
    click.echo(f"{plain + held} restarts of each of {', '.join(NAMES)}, on {servers.versions}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipstream-restarts-") as directory:
        result = run(Case(plain, held, instance_ids), Path(directory), servers, click.echo)
    click.echo(result.table())
    click.echo(f"{'all in all':<12} {time.monotonic() - start:.0f} s")
    if faults := result.faults:
        raise click.ClickException("\n".join(faults))
    click.echo("Every service read again after every restart.")


if __name__ == "__main__":
    main()
