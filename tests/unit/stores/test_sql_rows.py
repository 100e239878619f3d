"""A snapshot of a SQLite file that can't be read or copied."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError
from slipstream.stores.sql_rows import snapshot


def database(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "scratch"),
    [
        (lambda file: None, "."),
        (lambda file: file.write_text("no database" * 100), "."),
        (database, "absent"),
    ],
    ids=["no file", "no database", "nowhere to copy it to"],
)
def test_a_file_that_can_not_be_copied_is_a_database_away(
    make: Callable[[Path], None], scratch: str, tmp_path: Path
) -> None:
    file = tmp_path / "metadata.db"
    make(file)
    settings = DatabaseSettings(url=SecretStr(f"sqlite:///{file}"))
    with (
        pytest.raises(DatabaseUnavailableError, match=f"{file} can't be copied to"),
        snapshot(settings, tmp_path / scratch),
    ):
        pass
