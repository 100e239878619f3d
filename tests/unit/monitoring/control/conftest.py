"""Monitoring's tables in real SQLite, and those of placements."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.monitoring.control.named_records_repository import PlacementTable
from tests.unit.monitoring.builders import database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Engine]:
    made = database(tmp_path)
    yield made
    made.dispose()


@pytest.fixture
def table(db: Engine) -> PlacementTable:
    return PlacementTable(db)
