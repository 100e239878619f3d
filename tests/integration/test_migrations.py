"""The migrations of training and monitoring, on SQLite and on PostgreSQL."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, inspect, select, text

from services.monitoring import alert_repository as monitoring_alerts
from services.monitoring import migrations as monitoring_migrations
from services.monitoring import slate_tables as monitoring_slates
from services.monitoring.console import session_repository as monitoring_sessions
from services.monitoring.control import access_repository as monitoring_keys
from services.monitoring.control import experiments_repository as monitoring_experiments
from services.monitoring.control import named_records_repository as monitoring_placements
from services.monitoring.people import repository as monitoring_erasures
from services.training import app as training_audit
from services.training import migrations as training_migrations
from services.training import repository as training_runs
from services.training import waiting_alert_repository as training_alerts
from services.training.repository import Repository
from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores import metadata
from slipstream.stores.lease import lease_tables
from slipstream.stores.migrations import Migrations, migrate

# Tables of earlier versions, which no code reads.
UNDECLARED = {*monitoring_slates.UNUSED, "monitoring_quality"}


@dataclass(frozen=True)
class Service:
    """A service's migrations, and the tables that its code declares."""

    migrations: Migrations
    declared: tuple[MetaData, ...]

    @property
    def tables(self) -> list[Table]:
        return [table for tables in self.declared for table in tables.sorted_tables]


TRAINING = Service(
    training_migrations.MIGRATIONS,
    (
        training_runs.TABLES,
        training_alerts.TABLES,
        training_audit.TABLES,
        lease_tables("training"),
    ),
)
MONITORING = Service(
    monitoring_migrations.MIGRATIONS,
    (
        monitoring_slates.TABLES,
        monitoring_alerts.TABLES,
        monitoring_keys.TABLES,
        monitoring_sessions.TABLES,
        monitoring_erasures.TABLES,
        monitoring_placements.TABLES,
        monitoring_experiments.TABLES,
        lease_tables("monitoring"),
    ),
)


@pytest.fixture(params=[TRAINING, MONITORING], ids=["training", "monitoring"])
def service(request: pytest.FixtureRequest) -> Service:
    chosen: Service = request.param
    return chosen


@pytest.fixture
def db(database_settings: DatabaseSettings) -> Iterator[Engine]:
    made = metadata.engine(database_settings)
    yield made
    made.dispose()


def unlike_default(*compared: Any) -> bool | None:
    """Alembic's own comparison of defaults (None), except that it takes an empty string of SQLite
    for another one.
    """
    _context, _in_database, _declared, stored, _default, expected = compared
    return False if (stored, expected) == ("('')", "") else None


def difference(db: Engine, service: Service) -> list[Any]:
    """What Alembic would change so that the database has the declared tables, and no others."""
    ours = {service.migrations.version_table, *UNDECLARED}
    options = {
        "compare_server_default": unlike_default,
        "include_name": lambda name, kind, _parents: kind != "table" or name not in ours,
        "target_metadata": list(service.declared),
    }
    with db.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, list(service.declared)))  # type: ignore[arg-type]


def schema(db: Engine) -> dict[str, dict[str, Any]]:
    """By table and column of the database: the column's type and whether a row must give it."""
    inspector = inspect(db)
    return {
        table: {
            column["name"]: (
                str(column["type"]),
                not column["nullable"] and column["default"] is None,
            )
            for column in inspector.get_columns(table)
        }
        for table in inspector.get_table_names()
    }


def revision(db: Engine, migrations: Migrations) -> str | None:
    with db.connect() as connection:
        options = {"version_table": migrations.version_table}
        return MigrationContext.configure(connection, opts=options).get_current_revision()


def newest(migrations: Migrations) -> str:
    return migrations.revisions[-1]


def sample(table: Table) -> dict[str, Any]:
    """A row with the lowest value of each column's type."""
    return {column.name: column.type.python_type() for column in table.columns}


def count(db: Engine, table: Table) -> int:
    with db.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_migrations_make_the_tables_that_the_code_declares(db: Engine, service: Service) -> None:
    migrate(db, service.migrations)
    assert difference(db, service) == []
    assert revision(db, service.migrations) == newest(service.migrations)


def test_tables_that_the_code_declares_but_no_migration_makes_are_noticed(
    db: Engine, service: Service
) -> None:
    migrate(db, service.migrations)
    table = service.tables[0]
    with db.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN forgotten INTEGER"))
        connection.execute(text("CREATE TABLE left_over (id INTEGER)"))
    assert {change[0] for change in difference(db, service)} == {"remove_column", "remove_table"}


def test_tables_from_before_alembic_go_on_with_their_rows(db: Engine, service: Service) -> None:
    for declared in service.declared:
        declared.create_all(db)
    with db.begin() as connection:  # as the programs before had it
        connection.execute(text("CREATE TABLE schema_version (component VARCHAR(64), version INT)"))
        for table in service.tables:
            connection.execute(table.insert().values(sample(table)))
    migrate(db, service.migrations)
    assert [count(db, table) for table in service.tables] == [1] * len(service.tables)
    assert revision(db, service.migrations) == newest(service.migrations)
    with db.begin() as connection:
        connection.execute(text("DROP TABLE schema_version"))
    assert difference(db, service) == []


FIRST_LACKED = ("request_id",)
SECOND_LACKED = (
    "epoch", "epochs", "loss", "expected_at", "catalog_version", "seconds", "resumes", "resumed_by",
)  # fmt: skip


@pytest.mark.parametrize("lacking", [FIRST_LACKED + SECOND_LACKED, SECOND_LACKED])
def test_runs_of_the_first_programs_gain_the_columns_that_they_lack(
    db: Engine, lacking: tuple[str, ...]
) -> None:
    training_runs.TABLES.create_all(db)
    Repository(db).add("old", "request", "kept", "fast")
    with db.begin() as connection:
        for column in lacking:
            connection.execute(text(f"ALTER TABLE training_run DROP COLUMN {column}"))
    migrate(db, TRAINING.migrations)
    assert difference(db, TRAINING) == []
    repository = Repository(db)
    repository.add("new", "request", "", "fast", request_id="r-1")
    assert [run.run_id for run in repository.in_state("queued")] == ["old", "new"]
    assert [repository.request_id(run_id) for run_id in ("old", "new")] == ["", "r-1"]
    repository.start("old")
    repository.note("old", epoch=1, loss=0.5)
    repository.finish("old", "succeeded")
    assert repository.stage_seconds("fast") == {}


def test_each_migration_only_adds(db: Engine, service: Service) -> None:
    migrations = service.migrations
    before = schema(db)
    for number, step in enumerate(migrations.steps, 1):
        migrate(db, Migrations(migrations.version_table, migrations.steps[:number]))
        after = schema(db)
        for table, columns in before.items():
            assert columns.items() <= after[table].items(), f"{step.__name__}: {table}"
            added = {name: after[table][name] for name in after[table].keys() - columns.keys()}
            assert [name for name, (_, required) in added.items() if required] == []
        before = after
    assert len(before.keys() - UNDECLARED) == len(service.tables) + 1


def test_an_older_service_works_on_tables_that_a_newer_one_has_migrated(
    db: Engine, service: Service
) -> None:
    def added(op: Operations) -> None:
        op.create_table("added", Column("id", Integer, primary_key=True))
        for table in service.tables:
            op.add_column(table.name, Column("note", String(9)))
            weight = Column("weight", Integer, nullable=False, server_default="1")
            op.add_column(table.name, weight)

    steps = (*service.migrations.steps, added)
    newer = Migrations(service.migrations.version_table, steps)
    migrate(db, newer)
    migrate(db, service.migrations)
    assert revision(db, service.migrations) == newest(newer)
    with db.begin() as connection:
        for table in service.tables:
            connection.execute(table.insert().values(sample(table)))
            assert connection.execute(select(table)).one()._asdict() == sample(table)
            assert connection.scalar(text(f"SELECT weight FROM {table.name}")) == 1  # noqa: S608
    migrate(db, newer)
    assert [count(db, table) for table in service.tables] == [1] * len(service.tables)


def test_replicas_of_both_services_that_start_at_once_take_turns(
    database_settings: DatabaseSettings, db: Engine
) -> None:
    together = threading.Barrier(6)

    def start(service: Service) -> None:
        own_engine = metadata.engine(database_settings)
        together.wait()
        migrate(own_engine, service.migrations)
        own_engine.dispose()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(start, service) for service in [TRAINING, MONITORING] * 3]:
            done.result()
    made = set(inspect(db).get_table_names()) - UNDECLARED
    assert made == {
        name
        for service in (TRAINING, MONITORING)
        for name in (service.migrations.version_table, *(table.name for table in service.tables))
    }
