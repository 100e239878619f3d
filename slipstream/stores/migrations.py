"""Migrations of a service's tables, applied when the service starts.

Migrations only add: tables, indexes, and columns that can be null or have a default. An older
service therefore works on tables that a newer one has migrated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Engine, String, Table, inspect, select

from slipstream.chassis.logging import get_logger
from slipstream.stores.metadata import new_metadata, take_turn

# An arbitrary number, the same for all services.
_TURN: Final = 0x51_1B_57_4E

_log = get_logger(__name__)


@dataclass(frozen=True)
class Migrations:
    """The migrations of one service.

    Attributes:
        version_table: Records the revision of the database, in the form of Alembic's own table.
            Its name differs, since MLflow keeps an `alembic_version` in the same database.
        steps: The migrations, oldest first, each of which gets Alembic's operations. The first one
            leads to revision 0001.
    """

    version_table: str
    steps: tuple[Callable[[Operations], None], ...]

    @property
    def revisions(self) -> list[str]:
        """The revisions that the steps lead to."""
        return [f"{number:04}" for number in range(1, len(self.steps) + 1)]


def unapplied(engine: Engine, migrations: Migrations) -> list[str]:
    """The revisions that a service's tables lack, oldest first; none for tables of a newer program.

    Changes nothing.
    """
    with engine.connect() as connection:
        before = current_revision(connection, migrations)
    return [revision for revision in migrations.revisions if revision > (before or "")]


def migrate(engine: Engine, migrations: Migrations) -> None:
    """Bring a service's tables to the newest revision in one transaction.

    Processes that call it at once take turns. Where a newer program has migrated the tables beyond
    the revisions of this one, they stay as they are.
    """
    newest = migrations.revisions[-1]
    with engine.begin() as connection:
        take_turn(connection, _TURN)
        before = current_revision(connection, migrations) or ""
        if before >= newest:
            if before > newest:
                _log.info("tables_are_newer", table=migrations.version_table, revision=before)
            return
        # The metadata gives the constraints of new tables their names.
        options = {"target_metadata": new_metadata()}
        # Not Alembic's global `op`: MLflow migrates its tables in this process, too.
        operations = Operations(MigrationContext.configure(connection, opts=options))
        for revision, step in zip(migrations.revisions, migrations.steps, strict=True):
            if revision > before:
                step(operations)
        versions = _versions(migrations)
        versions.create(connection, checkfirst=True)
        connection.execute(versions.delete())
        connection.execute(versions.insert().values(version_num=newest))
    _log.info("tables_migrated", table=migrations.version_table, revision=newest)


def current_revision(connection: Connection, migrations: Migrations) -> str | None:
    """Return the revision of the database; None before the first migration."""
    if not inspect(connection).has_table(migrations.version_table):
        return None
    return connection.scalar(select(_versions(migrations).c.version_num))


def add_missing_columns(op: Operations, table: str, *columns: Column[Any]) -> None:
    """Add the columns that a table lacks.

    Tables from before migrations may have some of them.
    """
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)


def _versions(migrations: Migrations) -> Table:
    name = migrations.version_table
    return Table(name, new_metadata(), Column("version_num", String(32), primary_key=True))
