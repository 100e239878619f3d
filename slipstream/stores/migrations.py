"""A service's tables, made and migrated when the service starts.

A database without them gets them all at once, as the service declares them. Migrations bring those
of earlier releases up to date. They only add: tables, indexes, and columns that can be null or have
a default. An older service therefore works on tables that a newer one has migrated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger
from slipstream.stores.metadata import new_metadata, take_turn

# An arbitrary number, the same for all services.
_TURN: Final = 0x51_1B_57_4E
# The revision of the first release.
_FIRST: Final = 1000

_log = get_logger(__name__)


@dataclass(frozen=True)
class Migrations:
    """The tables of one service, and how those of earlier releases become like them.

    Attributes:
        version_table: Records the revision of the database, in the form of Alembic's own table.
            Its name differs, since MLflow keeps an `alembic_version` in the same database.
        tables: The tables as they are now.
        steps: The migrations, oldest first, each of which gets Alembic's operations.
    """

    version_table: str
    tables: tuple[MetaData, ...]
    steps: tuple[Callable[[Operations], None], ...] = ()

    @property
    def newest(self) -> str:
        """The revision of the tables as they are now."""
        return str(_FIRST + len(self.steps))


def migrate(engine: Engine, migrations: Migrations) -> None:
    """Make a service's tables, or bring them to the newest revision, in one transaction.

    Processes that call it at once take turns. Where a newer program has migrated the tables beyond
    the revisions of this one, they stay as they are.

    Raises:
        RefusedSettingsError: The tables are older than the first release.
    """
    newest = migrations.newest
    with engine.begin() as connection:
        take_turn(connection, _TURN)
        before = _revision(connection, migrations)
        if before >= newest:
            if before > newest:
                _log.info("tables_are_newer", table=migrations.version_table, revision=before)
            return
        if before:
            # The metadata gives the constraints of new tables their names.
            options = {"target_metadata": new_metadata()}
            # Not Alembic's global `op`: MLflow migrates its tables in this process, too.
            operations = Operations(MigrationContext.configure(connection, opts=options))
            for step in migrations.steps[int(before) - _FIRST :]:
                step(operations)
        else:
            for tables in migrations.tables:
                tables.create_all(connection)
        versions = _versions(migrations)
        versions.create(connection, checkfirst=True)
        connection.execute(versions.delete())
        connection.execute(versions.insert().values(version_num=newest))
    _log.info("tables_migrated", table=migrations.version_table, revision=newest)


def _revision(connection: Connection, migrations: Migrations) -> str:
    """The revision of the database; empty without any of the service's tables."""
    present, before = set(inspect(connection).get_table_names()), ""
    if migrations.version_table in present:
        before = connection.scalar(select(_versions(migrations).c.version_num)) or ""
    elif not any(present & part.tables.keys() for part in migrations.tables):
        return ""
    if before < str(_FIRST):
        raise RefusedSettingsError(
            f"the tables next to {migrations.version_table} in the database are older than 1.0.0, "
            "and are not read: begin with an empty database, or an empty data folder "
            "(SLIPSTREAM_DATABASE__URL)"
        )
    return before


def _versions(migrations: Migrations) -> Table:
    name = migrations.version_table
    return Table(name, new_metadata(), Column("version_num", String(32), primary_key=True))
