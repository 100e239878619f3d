"""Revision 0004 of training's tables: audit records."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from slipstream.stores.metadata import new_metadata

revision: Final = "0004"
down_revision: Final = "0003"

_tables: Final = new_metadata()
Table(
    "training_audit",
    _tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("principal", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("request_id", String, nullable=False),
)


def upgrade(op: Operations) -> None:
    """Make the table."""
    _tables.create_all(op.get_bind())
