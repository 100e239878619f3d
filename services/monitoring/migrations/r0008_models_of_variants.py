"""Revision 0008 of monitoring's tables: who made a slate and how long it took, and shadows."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text, inspect

from slipstream.stores.metadata import new_metadata

revision: Final = "0008"
down_revision: Final = "0007"

_SLATES: Final = "monitoring_slates"
_tables: Final = new_metadata()
Table(
    "monitoring_shadows",
    _tables,
    Column("recommendation_id", String, primary_key=True),
    Column("user_id", String, nullable=False, index=True),
    Column("timestamp", BigInteger, nullable=False, index=True),
    Column("experiment", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("shadow_of", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("items", Text, nullable=False),
    Column("substituted", String, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Index("monitoring_shadows_of_experiment", "experiment", "timestamp"),
)


def upgrade(op: Operations) -> None:
    """Make the table, and the columns of slates."""
    _tables.create_all(op.get_bind())
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(_SLATES)}
    for column in (Column("substituted", String), Column("latency_ms", Float)):
        if column.name not in present:
            op.add_column(_SLATES, column)
