"""A database that tests of counting copy."""

from pathlib import Path

import pytest

from tests.unit.monitoring.builders import database


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with monitoring's tables, to be copied."""
    made = database(tmp_path_factory.mktemp("migrated"))
    made.dispose()
    return Path(str(made.url.database))
