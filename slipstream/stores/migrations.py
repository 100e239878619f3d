"""Migrations of a service's tables, applied by Alembic when the service starts.

Migrations only add: tables, indexes, and columns that can be null or have a default. An older
service therefore works on tables that a newer one has migrated.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from slipstream.chassis.logging import get_logger
from slipstream.stores.metadata import new_metadata, take_turn

# An arbitrary number, the same for all services.
_TURN: Final = 0x51_1B_57_4E

_log = get_logger(__name__)


@dataclass(frozen=True)
class Migrations:
    """The migrations of one service.

    `folder` has a module for each revision, with `revision`, `down_revision` and `upgrade(op)`.
    `version_table` records the revision of the database. Each service has a table of its own, since
    MLflow's Alembic keeps `alembic_version` in the same database.
    """

    folder: Path
    version_table: str


def unapplied(engine: Engine, migrations: Migrations) -> list[str]:
    """The revisions that a service's tables lack, oldest first; none for tables of a newer program.

    Changes nothing.
    """
    scripts = _scripts(migrations)
    with engine.connect() as connection:
        options = {"version_table": migrations.version_table}
        before = MigrationContext.configure(connection, opts=options).get_current_revision()
    if before is not None and before not in _known(scripts):
        return []
    missing = scripts.iterate_revisions("head", before or "base")
    return [script.revision for script in missing][::-1]


def migrate(engine: Engine, migrations: Migrations) -> None:
    """Bring a service's tables to the newest revision in one transaction.

    Processes that call it at once take turns. Where a newer program has migrated the tables beyond
    the revisions of this one, they stay as they are.
    """
    scripts = _scripts(migrations)
    with engine.begin() as connection:
        take_turn(connection, _TURN)
        context = MigrationContext.configure(
            connection,
            # The metadata gives the constraints of new tables their names.
            opts={"version_table": migrations.version_table, "target_metadata": new_metadata()},
        )
        before = context.get_current_revision()
        if before is not None and before not in _known(scripts):
            _log.info("tables_are_newer", table=migrations.version_table, revision=before)
            return
        missing = list(scripts.iterate_revisions("head", before or "base"))
        for script in reversed(missing):
            # Not Alembic's global `op`: MLflow migrates its tables in this process, too.
            script.module.upgrade(Operations(context))
            context.stamp(scripts, script.revision)
    if missing:
        _log.info("tables_migrated", table=migrations.version_table, revision=missing[0].revision)


def _scripts(migrations: Migrations) -> ScriptDirectory:
    return ScriptDirectory(str(migrations.folder), version_locations=[str(migrations.folder)])


def _known(scripts: ScriptDirectory) -> set[str]:
    return {script.revision for script in scripts.walk_revisions()}
