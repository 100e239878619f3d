"""Monitoring's tables in real SQLite, and those of placements."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.monitoring.control.named_records_repository import PlacementTable
from services.monitoring.migrations import MIGRATIONS
from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores import metadata
from slipstream.stores.migrations import migrate


@pytest.fixture
def db(database_settings: DatabaseSettings) -> Iterator[Engine]:
    made = metadata.engine(database_settings)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def table(db: Engine) -> PlacementTable:
    return PlacementTable(db)
