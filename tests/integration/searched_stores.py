"""Stores with files that a test searches, and clients that write to them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from pydantic import SecretStr

from bench import postgresql
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.times import now_ms
from slipstream_cli.local.processes import Child, free_port
from tests.integration.byte_search import files_with
from tests.servers import Servers

# Ids that nothing else has a byte of.
USER, DEVICE, STRANGER = "erased-7f3a9c51", "device-7f3a9c51", "stranger-0b1d"
PLANTED = (USER, DEVICE)
KEY = ("s3cret", "")


@dataclass
class Disks:
    """The folders of all stores, by name, and the database."""

    folder: Path
    postgresql: Path | None
    database: DatabaseSettings

    @property
    def all(self) -> dict[str, Path]:
        folders = {name: self.folder / name for name in ("redis-0", "broker", "lake", "models")}
        return folders | {"sql": self.postgresql or self.folder / "sql"}

    def found(self, *ids: str) -> dict[str, list[str]]:
        """The files that hold one of these ids, by store."""
        found = {name: sorted(files_with(ids, folder)) for name, folder in self.all.items()}
        return {name: files for name, files in found.items() if files}


@pytest.fixture(params=["sqlite", "postgresql"])
def disks(request: pytest.FixtureRequest, tmp_path: Path, mlflow_template: Path) -> Iterator[Disks]:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'sql' / 'metadata.db'}"
        yield Disks(tmp_path, None, DatabaseSettings(url=SecretStr(url)))
        return
    with TemporaryDirectory(prefix="slipstream-postgresql-") as folder:
        Path(folder).chmod(0o755)  # the server is another user than root
        server = postgresql.postgresql(free_port(), Path(folder))
        # Segments of the write-ahead log that are done with are deleted. Else they would be kept
        # for the next records, with their bytes.
        (Path(folder) / "data" / "postgresql.auto.conf").write_text(
            "wal_recycle = off\nmin_wal_size = '32MB'\n"
        )
        server.start()
        try:
            url = postgresql.create_database(server, "slipstream")
            yield Disks(tmp_path, Path(folder), DatabaseSettings(url=SecretStr(url)))
        finally:
            server.kill()


@pytest.fixture
def broker_child(servers: Servers, tmp_path: Path) -> Iterator[Child]:
    """A broker that looks twice a second for records past their retention."""
    child = servers.broker(tmp_path / "broker")
    for properties in (tmp_path / "broker").rglob("server.properties"):
        with properties.open("a") as file:
            file.write("log.retention.check.interval.ms=500\nlog.initial.task.delay.ms=500\n")
    child.start()
    yield child
    child.kill()


class Client(threading.Thread):
    """A client with a clock of its own, that sends events of one visitor until it is stopped."""

    def __init__(self, url: str, visitor: dict[str, str], clock_off_ms: int) -> None:
        super().__init__()
        self._http = httpx.Client(base_url=url, auth=KEY, timeout=30)
        self._visitor, self._off = visitor, clock_off_ms
        self.sent, self.halt = 0, threading.Event()

    def run(self) -> None:
        name = next(iter(self._visitor.values()))
        while not self.halt.wait(0.01):
            event = {
                **self._visitor,
                "messageId": f"{name}-{self.sent}",
                "event": "Product Viewed",
                "timestamp": now_ms() + self._off,
                "properties": {"product_id": f"i{self.sent % 5}", "by": name},
            }
            answer = self._http.post("/v1/track", json=event)
            assert answer.status_code == 200, answer.text
            self.sent += 1

    def end(self) -> None:
        self.halt.set()
        self.join()
        self._http.close()
