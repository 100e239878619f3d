"""Places that a test backs up and restores, each with a database and models of its own."""

import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr
from sqlalchemy import Integer, select

from bench import postgresql
from services.monitoring.arrivals import Arrivals
from services.monitoring.counting.tables import identities, visitor_sums
from services.monitoring.migrations import MIGRATIONS as MONITORING
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sample
from services.monitoring.slate_tables import samples
from services.training.migrations import MIGRATIONS as TRAINING
from slipstream.chassis.settings import DatabaseSettings, LakeSettings
from slipstream.stores.metadata import engine, insert_new
from slipstream.stores.migrations import migrate
from slipstream_cli.__main__ import cli

Place = Callable[[str], "Shop"]


@dataclass
class Shop:
    """A place with a database and models; `lake` is shared by all, as the one that survives."""

    settings: DatabaseSettings
    folder: Path
    lake: LakeSettings
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            "SLIPSTREAM_DATABASE__URL": self.settings.url.get_secret_value(),
            "SLIPSTREAM_ARTIFACTS__DIRECTORY": str(self.folder / "models"),
            "SLIPSTREAM_LAKE__URI": self.lake.uri,
            "SLIPSTREAM_NAMESPACE": "shop",
        }
        self.db = engine(self.settings)
        self.records = RecordLog(self.db)

    def migrated(self) -> "Shop":
        for migrations in (TRAINING, MONITORING):
            migrate(self.db, migrations)
        return self

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments], env=self.environment)

    def shows(self, *visitors: str, at: int = 1_000) -> None:
        """Monitoring keeps a sample, an experiment's sums and a login of each of these visitors."""
        taken = [Sample(3_600_000, at, visitor, visitor, 1.0, "{}") for visitor in visitors]
        self.records.record(Arrivals(samples=taken), at)
        numbers = {c.name: 1 for c in visitor_sums.c if isinstance(c.type, Integer)}
        texts = {"experiment": "e", "variant": "v", "voted_by": ""}
        with self.db.begin() as connection:
            for visitor in visitors:
                insert_new(connection, visitor_sums, [{**numbers, **texts, "user_id": visitor}])
                login = {"visitor": visitor, "person": f"{visitor}-logged-in"}
                insert_new(connection, identities, [login])

    def visitors(self) -> list[str]:
        """The visitors that monitoring's tables name."""
        with self.db.connect() as connection:
            found = (
                connection.scalars(select(column))
                for column in (samples.c.user_id, visitor_sums.c.user_id, identities.c.visitor)
            )
            return sorted({visitor for each in found for visitor in each})


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    lake_settings: LakeSettings,
    mlflow_template: Path,
    servers: object,
) -> Iterator[Place]:
    made: list[Shop] = []
    real = getattr(servers, "kind", "") == "real"
    server = request.getfixturevalue("postgresql_for_all") if real else None
    names: list[str] = []

    def make(name: str) -> Shop:
        folder = tmp_path / name
        folder.mkdir()
        if server:
            names.append(f"t_{uuid.uuid4().hex[:12]}")
            url = postgresql.create_database(server, names[-1])
        else:
            shutil.copy(mlflow_template, folder / "mlflow.db")
            with closing(sqlite3.connect(folder / "mlflow.db")) as mlflow:
                location = (folder / "models" / "experiments").as_uri()
                mlflow.execute("UPDATE experiments SET artifact_location = ?", (location,))
                mlflow.commit()
            url = f"sqlite:///{folder / 'metadata.db'}"
        made.append(Shop(DatabaseSettings(url=SecretStr(url)), folder, lake_settings))
        return made[-1]

    yield make
    for shop in made:
        shop.db.dispose()
    for name in names:
        postgresql.drop_database(server, name)
