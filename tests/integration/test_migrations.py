"""The tables of training and monitoring, on SQLite and on PostgreSQL."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Integer, String, Table, func, inspect, select, text

from services.monitoring.migrations import MIGRATIONS as MONITORING
from services.training.migrations import MIGRATIONS as TRAINING
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores import metadata
from slipstream.stores.migrations import Migrations, migrate


@pytest.fixture(params=[TRAINING, MONITORING], ids=["training", "monitoring"])
def service(request: pytest.FixtureRequest) -> Migrations:
    chosen: Migrations = request.param
    return chosen


@pytest.fixture
def db(database_settings: DatabaseSettings) -> Iterator[Engine]:
    made = metadata.engine(database_settings)
    yield made
    made.dispose()


def tables_of(service: Migrations) -> list[Table]:
    return [table for tables in service.tables for table in tables.sorted_tables]


def unlike_default(*compared: Any) -> bool | None:
    """Alembic's own comparison of defaults (None), except that it takes an empty string of SQLite
    for another one.
    """
    _context, _in_database, _declared, stored, _default, expected = compared
    return False if (stored, expected) == ("('')", "") else None


def difference(db: Engine, service: Migrations) -> list[Any]:
    """What Alembic would change so that the database has the declared tables, and no others."""
    own = service.version_table
    options = {
        "compare_server_default": unlike_default,
        "include_name": lambda name, kind, _parents: kind != "table" or name != own,
        "target_metadata": list(service.tables),
    }
    with db.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, list(service.tables)))  # type: ignore[arg-type]


def revision(db: Engine, migrations: Migrations) -> str | None:
    with db.connect() as connection:
        options = {"version_table": migrations.version_table}
        return MigrationContext.configure(connection, opts=options).get_current_revision()


def sample(table: Table) -> dict[str, Any]:
    """A row with the lowest value of each column's type."""
    return {column.name: column.type.python_type() for column in table.columns}


def count(db: Engine, table: Table) -> int:
    with db.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_the_tables_are_those_that_the_code_declares(db: Engine, service: Migrations) -> None:
    migrate(db, service)
    assert difference(db, service) == []
    assert revision(db, service) == service.newest


def test_tables_that_differ_from_the_declared_ones_are_noticed(
    db: Engine, service: Migrations
) -> None:
    migrate(db, service)
    table = tables_of(service)[0]
    with db.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN forgotten INTEGER"))
        connection.execute(text("CREATE TABLE left_over (id INTEGER)"))
    assert {change[0] for change in difference(db, service)} == {"remove_column", "remove_table"}


def test_tables_from_before_the_first_release_are_refused(db: Engine, service: Migrations) -> None:
    table = tables_of(service)[-1]
    with db.begin() as connection:
        connection.execute(text(f"CREATE TABLE {table.name} (id INTEGER)"))
    words = f"next to {service.version_table} .* older than 1.0.0, .* begin with an empty database"
    with pytest.raises(RefusedSettingsError, match=words):
        migrate(db, service)
    with db.begin() as connection:
        connection.execute(text(f"DROP TABLE {table.name}"))
        columns = "(version_num VARCHAR(32) PRIMARY KEY)"
        connection.execute(text(f"CREATE TABLE {service.version_table} {columns}"))
        connection.execute(text(f"INSERT INTO {service.version_table} VALUES ('0021')"))  # noqa: S608
    with pytest.raises(RefusedSettingsError, match=words):
        migrate(db, service)
    assert inspect(db).get_table_names() == [service.version_table]


def test_an_older_service_works_on_tables_that_a_newer_one_has_migrated(
    db: Engine, service: Migrations
) -> None:
    def added(op: Operations) -> None:
        op.create_table("added", Column("id", Integer, primary_key=True))
        for table in tables_of(service):
            op.add_column(table.name, Column("note", String(9)))
            weight = Column("weight", Integer, nullable=False, server_default="1")
            op.add_column(table.name, weight)

    newer = replace(service, steps=(*service.steps, added))
    migrate(db, service)
    migrate(db, newer)
    migrate(db, service)
    assert revision(db, service) == newer.newest
    with db.begin() as connection:
        for table in tables_of(service):
            connection.execute(table.insert().values(sample(table)))
            assert connection.execute(select(table)).one()._asdict() == sample(table)
            assert connection.scalar(text(f"SELECT weight FROM {table.name}")) == 1  # noqa: S608
    migrate(db, newer)
    assert [count(db, table) for table in tables_of(service)] == [1] * len(tables_of(service))


def test_replicas_of_both_services_that_start_at_once_take_turns(
    database_settings: DatabaseSettings, db: Engine
) -> None:
    together = threading.Barrier(6)

    def start(service: Migrations) -> None:
        own_engine = metadata.engine(database_settings)
        together.wait()
        migrate(own_engine, service)
        own_engine.dispose()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(start, service) for service in [TRAINING, MONITORING] * 3]:
            done.result()
    assert set(inspect(db).get_table_names()) == {
        name
        for service in (TRAINING, MONITORING)
        for name in (service.version_table, *(table.name for table in tables_of(service)))
    }
