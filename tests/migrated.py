"""Databases with a service's tables: migrated once in a process, and copied for each test."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from sqlalchemy import Engine

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import engine
from slipstream.stores.migrations import Migrations, migrate


def database(folder: Path, migrations: Migrations) -> Engine:
    """A SQLite database in a folder, with a service's tables."""
    path = folder / "metadata.db"
    path.write_bytes(_migrated(migrations))
    return _engine(path)


@cache
def _migrated(migrations: Migrations) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.db"
        made = _engine(path)
        migrate(made, migrations)
        made.dispose()  # SQLite writes its log back when the last connection ends
        return path.read_bytes()


def _engine(path: Path) -> Engine:
    return engine(DatabaseSettings(url=SecretStr(f"sqlite:///{path}")))
