"""Revision 0004 of monitoring's tables: erasures, and the visitors that they remove."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, String, Table, Text

from slipstream.stores.metadata import new_metadata

revision: Final = "0004"
down_revision: Final = "0003"

_tables: Final = new_metadata()
Table(
    "monitoring_erasures",
    _tables,
    Column("erasure_id", String, primary_key=True),
    Column("asked_at", BigInteger),
    Column("told_at", BigInteger),
    Column("cut", Text),
    Column("rows_deleted", BigInteger),
    Column("deleted_at", BigInteger),
    Column("overwritten_at", BigInteger),
    Column("overwritten_how", Text),
)
Table(
    "monitoring_erasure_visitors",
    _tables,
    Column("erasure_id", String, primary_key=True),
    Column("visitor_id", String, primary_key=True),
)


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _tables.create_all(op.get_bind())
