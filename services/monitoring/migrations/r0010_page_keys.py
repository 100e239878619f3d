"""Revision 0010 of monitoring's tables: the public keys that verify tokens of pages."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import Column, String, inspect

revision: Final = "0010"
down_revision: Final = "0009"

_KEYS: Final = "monitoring_access_keys"


def upgrade(op: Operations) -> None:
    """Make the column."""
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(_KEYS)}
    if "page_key" not in present:
        op.add_column(_KEYS, Column("page_key", String, nullable=False, server_default=""))
