"""Revision 0005 of monitoring's tables: the names of access keys."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, String, Table

from slipstream.stores.metadata import new_metadata

revision: Final = "0005"
down_revision: Final = "0004"

_tables: Final = new_metadata()
Table(
    "monitoring_access_key_names",
    _tables,
    Column("name", String, primary_key=True),
    Column("changes", BigInteger, nullable=False),
)


def upgrade(op: Operations) -> None:
    """Make the table."""
    _tables.create_all(op.get_bind())
