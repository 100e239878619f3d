"""Revision 0009 of monitoring's tables: marks of erased visitors."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, String, Table

from slipstream.stores.metadata import new_metadata

revision: Final = "0009"
down_revision: Final = "0008"

_tables: Final = new_metadata()
Table(
    "monitoring_erasure_marks",
    _tables,
    Column("digest", String, primary_key=True),
    Column("asked_at", BigInteger, nullable=False, index=True),
    Column("slates_until", BigInteger, nullable=False),
)


def upgrade(op: Operations) -> None:
    """Make the table."""
    _tables.create_all(op.get_bind())
