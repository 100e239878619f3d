"""Bytes of deleted rows: the database gives them up while others use it."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError, engine, overwrite_deleted
from tests.integration.byte_search import files_with


def test_sqlite_holds_no_byte_of_a_deleted_row(tmp_path: Path) -> None:
    db = engine(DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path}/m.db")))
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE t (name TEXT PRIMARY KEY, other TEXT)"))
        rows = [{"name": f"{who}-{n}", "other": "x" * 90} for n in range(500) for who in ("a", "b")]
        connection.execute(text("INSERT INTO t VALUES (:name, :other)"), rows)
    with db.begin() as connection:
        connection.execute(text("DELETE FROM t WHERE name LIKE 'a-%'"))
    assert [*files_with(["a-17"], tmp_path)]
    assert overwrite_deleted(db, ["t"], 0).startswith("SQLite has rewritten its file")
    assert [*files_with([f"a-{n}" for n in range(100, 500)], tmp_path)] == []
    assert [*files_with(["b-17"], tmp_path)]
    db.dispose()


def test_who_uses_sqlite_meanwhile_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.metadata._PATIENCE_S", 0.0)
    monkeypatch.setattr("slipstream.stores.metadata.BUSY_TIMEOUT_MS", 50)
    db = engine(DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path}/m.db")))
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE t (name TEXT)"))
        with pytest.raises(DatabaseUnavailableError, match="is being used"):
            overwrite_deleted(db, ["t"], 0)
    assert overwrite_deleted(db, ["t"], 0)
    db.dispose()


@pytest.mark.servers("real")
@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ACCESS EXCLUSIVE"])
def test_postgresql_keeps_no_limit_on_locks_after_others_held_a_table(
    database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("slipstream.stores.metadata._PATIENCE_S", 0.1)
    db = engine(database_settings)
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE t (name TEXT)"))
    holder = engine(database_settings)
    with holder.begin() as connection:
        connection.execute(text(f"LOCK TABLE t IN {mode} MODE"))
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
            overwrite_deleted(db, ["t"], 2**30)
    holder.dispose()
    with db.connect() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "0"
    assert overwrite_deleted(db, ["t"], 2**30)
    db.dispose()


@pytest.mark.servers("real")
def test_postgresql_rewrites_small_tables_and_vacuums_large_ones(
    database_settings: DatabaseSettings,
) -> None:
    db = engine(database_settings)
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE t (name TEXT)"))
        connection.execute(text("INSERT INTO t SELECT 'a' || n FROM generate_series(1, 9999) n"))
        connection.execute(text("DELETE FROM t"))

    def size() -> int:
        with db.connect() as connection:
            return int(connection.execute(text("SELECT pg_relation_size('t')")).scalar_one())

    before = size()
    assert "too large to be rewritten" in overwrite_deleted(db, ["t"], before - 1)
    with db.begin() as connection:
        connection.execute(text("INSERT INTO t SELECT 'a' || n FROM generate_series(1, 9999) n"))
        connection.execute(text("DELETE FROM t"))
    assert "has rewritten the tables" in overwrite_deleted(db, ["t"], 2**30)
    assert size() == 0 < before
    with db.begin() as connection:
        connection.execute(text("CREATE ROLE guest_of_tables"))
        connection.execute(text("GRANT ALL ON t TO guest_of_tables"))
        connection.execute(text("ALTER ROLE guest_of_tables LOGIN"))
    guest = database_settings.url.get_secret_value().replace("slipstream@", "guest_of_tables@")
    strange = engine(DatabaseSettings(url=SecretStr(guest)))
    assert "does not let this role vacuum" in overwrite_deleted(strange, ["t"], 2**30)
    strange.dispose()
    with db.begin() as connection:
        connection.execute(text("DROP OWNED BY guest_of_tables"))
        connection.execute(text("DROP ROLE guest_of_tables"))
    db.dispose()
