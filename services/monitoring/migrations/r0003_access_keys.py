"""Revision 0003 of monitoring's tables: access keys, and audit records."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, Text

from slipstream.stores.metadata import new_metadata

revision: Final = "0003"
down_revision: Final = "0002"

_tables: Final = new_metadata()
Table(
    "monitoring_access_keys",
    _tables,
    Column("digest", String(64), primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("scopes", Text, nullable=False),
    Column("browser", Boolean, nullable=False),
    Column("origins", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("published", Boolean, nullable=False, index=True),
)
Table(
    "monitoring_audit",
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
    """Make the tables."""
    _tables.create_all(op.get_bind())
