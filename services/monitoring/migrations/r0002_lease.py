"""Revision 0002 of monitoring's tables: the lease."""

from typing import Final

from alembic.operations import Operations

from slipstream.stores.lease import lease_tables

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade(op: Operations) -> None:
    """Make the table of the lease."""
    lease_tables("monitoring").create_all(op.get_bind())
