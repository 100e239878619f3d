"""The table of placements in real SQLite."""

import pytest
from sqlalchemy import Engine

from services.monitoring.control.named_records_repository import PlacementTable


@pytest.fixture
def table(db: Engine) -> PlacementTable:
    return PlacementTable(db)
