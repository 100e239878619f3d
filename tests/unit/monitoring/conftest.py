"""Monitoring's tables in real SQLite, and a database that tests of counting copy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.unit.monitoring.builders import database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Engine]:
    made = database(tmp_path)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with monitoring's tables, to be copied."""
    made = database(tmp_path_factory.mktemp("migrated"))
    made.dispose()
    return Path(str(made.url.database))
