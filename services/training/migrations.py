"""Migrations of training's tables, oldest first."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text, text

from slipstream.stores.lease import lease_tables
from slipstream.stores.metadata import new_metadata
from slipstream.stores.migrations import Migrations, add_missing_columns


def _first_tables(op: Operations) -> None:
    """Make the tables from before Alembic.

    Databases that an earlier program made have some of them; `training_run` gains the columns that
    it lacks.
    """
    tables = new_metadata()
    run = Table(
        "training_run",
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("run_id", String(64), nullable=False, unique=True),
        Column("state", String(16), nullable=False, index=True),
        Column("trigger", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("profile", String(16), nullable=False),
        Column("stage", Text, nullable=False),
        Column("progress", Float, nullable=False),
        Column("epoch", Integer),
        Column("epochs", Integer),
        Column("loss", Float),
        Column("expected_at", BigInteger),
        Column("created_at", BigInteger, nullable=False),
        Column("started_at", BigInteger),
        Column("finished_at", BigInteger),
        Column("error", Text),
        Column("lake_version", BigInteger),
        Column("lake_rows", BigInteger),
        Column("catalog_version", BigInteger),
        Column("model_version", String(128)),
        Column("decision", String(16)),
        Column("decision_reason", Text, nullable=False),
        Column("metrics", Text, nullable=False),
        Column("seconds", Text, nullable=False, server_default="{}"),
        Column("attempt", Integer, nullable=False),
        Column("resumes", String(64)),
        Column("resumed_by", String(64)),
        Column("request_id", Text, nullable=False, server_default=""),
    )
    Table(
        "gate_decision",
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("run_id", String(64), nullable=False, index=True),
        Column("model_version", String(128), nullable=False),
        Column("champion_version", String(128)),
        Column("outcome", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("numbers", Text, nullable=False),
        Column("settings", Text, nullable=False),
        Column("decided_at", BigInteger, nullable=False),
    )
    Table(
        "training_model_event",
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("version", String(128), nullable=False, index=True),
        Column("event", String(16), nullable=False),
        Column("body", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("announced", Boolean, nullable=False, index=True),
    )
    Table(
        "training_waiting_alert",
        tables,
        Column("rule", String(128), primary_key=True),
        Column("summary", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("opened_at", BigInteger, nullable=False),
    )
    tables.create_all(op.get_bind())
    columns = (
        Column(each.name, each.type, nullable=each.nullable, server_default=each.server_default)
        for each in run.columns
    )
    add_missing_columns(op, run.name, *columns)


def _lease(op: Operations) -> None:
    """Make the table of the lease."""
    lease_tables("training").create_all(op.get_bind())


def _alerts_in_order(op: Operations) -> None:
    """Order waiting alerts by runs; those that wait now wait for the next run."""
    add_missing_columns(
        op, "training_waiting_alert", Column("after_run", BigInteger), Column("met", Boolean)
    )
    newest = "(SELECT COALESCE(MAX(number), 0) FROM training_run)"
    op.get_bind().execute(
        text(f"UPDATE training_waiting_alert SET after_run = {newest} WHERE after_run IS NULL")  # noqa: S608
    )


def _audit(op: Operations) -> None:
    """Make the table of audit records."""
    tables = new_metadata()
    Table(
        "training_audit",
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("principal", String, nullable=False),
        Column("action", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("detail", Text, nullable=False),
        Column("request_id", String, nullable=False),
    )
    tables.create_all(op.get_bind())


def _keys(op: Operations) -> None:
    """Give runs the key of their request; attempts at the same work share it."""
    add_missing_columns(op, "training_run", Column("key", String(128)))
    columns = ["key", "attempt"]
    op.create_index("training_run_key", "training_run", columns, unique=True, if_not_exists=True)


def _steps(op: Operations) -> None:
    """Keep what runs report about their steps."""
    empty = {"nullable": False, "server_default": ""}
    columns = (Column("outputs", Text, **empty), Column("usage", Text, **empty))  # type: ignore[arg-type]
    add_missing_columns(op, "training_run", *columns)


def _holds(op: Operations) -> None:
    """Keep whether an alert holds promotions."""
    add_missing_columns(op, "training_waiting_alert", Column("holds", Boolean))


def _onsets(op: Operations) -> None:
    """Keep the onset of what an alert found, and of what a run answers."""
    for table in ("training_waiting_alert", "training_run"):
        add_missing_columns(op, table, Column("onset", BigInteger))


MIGRATIONS: Final = Migrations(
    "training_schema_version",
    (
        _first_tables,
        _lease,
        _alerts_in_order,
        _audit,
        _keys,
        _steps,
        _holds,
        _onsets,
    ),
)
