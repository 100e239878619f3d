"""Revision 0007 of monitoring's tables: experiments, their revisions and slates."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, Text, inspect

from slipstream.stores.metadata import new_metadata

revision: Final = "0007"
down_revision: Final = "0006"

_SLATES: Final = "monitoring_slates"
_tables: Final = new_metadata()
Table(
    "monitoring_experiments",
    _tables,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("design", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", String, nullable=False),
    Column("published", Boolean, nullable=False, index=True),
)
Table(
    "monitoring_experiment_revisions",
    _tables,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("design", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", String, nullable=False),
)


def upgrade(op: Operations) -> None:
    """Make the tables, and the columns of slates that tell of experiments."""
    _tables.create_all(op.get_bind())
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(_SLATES)}
    for column in (Column("experiment", String), Column("variant", String), Column("teams", Text)):
        if column.name not in present:
            op.add_column(_SLATES, column)
    op.create_index(
        "monitoring_slates_of_experiment", _SLATES, ["experiment", "user_id"], if_not_exists=True
    )
