"""A service's tables on a real SQLite file; tests/integration has them on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.operations import Operations
from pydantic import SecretStr
from sqlalchemy import Column, Engine, Integer, String, Table, inspect, text

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError, engine, new_metadata
from slipstream.stores.migrations import Migrations, migrate


def second(op: Operations) -> None:
    op.add_column("note", Column("tone", String(9)))


def third(op: Operations) -> None:
    op.add_column("note", Column("rank", Integer, nullable=False, server_default="7"))


@pytest.fixture
def settings(tmp_path: Path) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'metadata.db'}"))


@pytest.fixture
def db(settings: DatabaseSettings) -> Iterator[Engine]:
    made = engine(settings)
    yield made
    made.dispose()


def program(*steps: Callable[[Operations], None]) -> Migrations:
    """A program with these steps. Its declared tables are as they leave them."""
    tables = new_metadata()
    added = {second: Column("tone", String(9)), third: Column("rank", Integer, server_default="7")}
    Table(
        "note",
        tables,
        Column("id", Integer, primary_key=True),
        Column("word", String(9), unique=True),
        *(added[step] for step in steps if step in added),
    )
    return Migrations("notes_schema_version", (tables,), steps)


def columns(db: Engine, table: str = "note") -> list[str]:
    return [column["name"] for column in inspect(db).get_columns(table)]


def revision(db: Engine, table: str = "notes_schema_version") -> list[str]:
    with db.connect() as connection:
        return list(connection.scalars(text(f"SELECT version_num FROM {table}")))  # noqa: S608


def execute(db: Engine, statement: str) -> None:
    with db.begin() as connection:
        connection.execute(text(statement))


def test_migrate_twice_keeps_rows(db: Engine) -> None:
    migrations = program()
    migrate(db, migrations)
    execute(db, "INSERT INTO note (id, word) VALUES (1, 'kept')")
    migrate(db, migrations)
    with db.connect() as connection:
        assert connection.scalar(text("SELECT word FROM note")) == "kept"
    assert revision(db) == ["1000"]


def test_migrate_names_constraints_by_convention(db: Engine) -> None:
    migrate(db, program())
    assert inspect(db).get_pk_constraint("note")["name"] == "pk_note"
    assert [unique["name"] for unique in inspect(db).get_unique_constraints("note")] == [
        "uq_note_word"
    ]


def test_migrate_applies_only_what_is_missing_in_order(db: Engine) -> None:
    migrate(db, program())
    execute(db, "INSERT INTO note (id) VALUES (1)")
    migrate(db, program(second, third))
    assert columns(db) == ["id", "word", "tone", "rank"]
    assert revision(db) == ["1002"]
    with db.connect() as connection:
        assert connection.scalar(text("SELECT rank FROM note")) == 7


def test_an_older_program_leaves_newer_tables_as_they_are(db: Engine) -> None:
    newer, older = program(second, third), program()
    migrate(db, newer)
    migrate(db, older)
    execute(db, "INSERT INTO note (id, word) VALUES (1, 'by the older program')")
    assert columns(db) == ["id", "word", "tone", "rank"]
    assert revision(db) == ["1002"]
    migrate(db, newer)
    assert revision(db) == ["1002"]


def test_a_failing_migration_changes_nothing_and_may_be_tried_again(db: Engine) -> None:
    def broken(op: Operations) -> None:
        second(op)
        op.execute("nonsense")

    migrate(db, program())
    with pytest.raises(Exception, match="nonsense"):
        migrate(db, program(third, broken))
    assert columns(db) == ["id", "word"]
    assert revision(db) == ["1000"]
    migrate(db, program(second))
    assert columns(db) == ["id", "word", "tone"]


def test_services_and_mlflow_keep_their_revisions_apart(db: Engine) -> None:
    execute(db, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    execute(db, "INSERT INTO alembic_version VALUES ('of-mlflow')")
    migrate(db, program(second))
    tasks = new_metadata()
    Table("task", tasks, Column("id", Integer, primary_key=True))
    migrate(db, Migrations("tasks_schema_version", (tasks,)))
    assert revision(db) == ["1001"]
    assert revision(db, "tasks_schema_version") == ["1000"]
    assert revision(db, "alembic_version") == ["of-mlflow"]


def test_programs_that_start_at_once_migrate_one_after_the_other(
    settings: DatabaseSettings, db: Engine
) -> None:
    programs = [program(second), program(second, third)]
    together = threading.Barrier(6)

    def start(number: int) -> None:
        own_engine = engine(settings)
        together.wait()
        migrate(own_engine, programs[number % 2])
        own_engine.dispose()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(start, number) for number in range(6)]:
            done.result()
    assert columns(db) == ["id", "word", "tone", "rank"]
    assert revision(db) == ["1002"]


def test_a_database_that_another_program_holds_for_long_is_unavailable(
    db: Engine, settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.metadata.BUSY_TIMEOUT_MS", 10)
    waiting, migrations = engine(settings), program()
    with db.begin(), pytest.raises(DatabaseUnavailableError, match="database is locked"):
        migrate(waiting, migrations)
    migrate(waiting, migrations)
    assert revision(db) == ["1000"]
    waiting.dispose()
