"""Revision 0001 of training's tables: those that were there before Alembic.

Databases that an earlier program made have some of these tables. They are left as they are, except
that `training_run` gains the columns that it lacks.
"""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    String,
    Table,
    Text,
    inspect,
)

from slipstream.stores.metadata import new_metadata

revision: Final = "0001"
down_revision: Final = None

_tables: Final = new_metadata()
_run: Final = Table(
    "training_run",
    _tables,
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
    _tables,
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
    _tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("version", String(128), nullable=False, index=True),
    Column("event", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("announced", Boolean, nullable=False, index=True),
)
Table(
    "training_waiting_alert",
    _tables,
    Column("rule", String(128), primary_key=True),
    Column("summary", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
)


def upgrade(op: Operations) -> None:
    """Make the tables that do not exist, and add the columns that an old `training_run` lacks."""
    _tables.create_all(op.get_bind())
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(_run.name)}
    for column in _run.columns:
        if column.name not in present:
            added = Column(
                column.name,
                column.type,
                nullable=column.nullable,
                server_default=column.server_default,
            )
            op.add_column(_run.name, added)
