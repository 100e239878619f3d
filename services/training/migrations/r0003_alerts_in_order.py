"""Revision 0003 of training's tables: waiting alerts in the order of runs."""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, inspect, text

revision: Final = "0003"
down_revision: Final = "0002"

_TABLE: Final = "training_waiting_alert"


def upgrade(op: Operations) -> None:
    """Add the columns. Alerts that wait by now wait for the next run."""
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(_TABLE)}
    for column in (Column("after_run", BigInteger), Column("met", Boolean)):
        if column.name not in present:
            op.add_column(_TABLE, column)
    newest = "(SELECT COALESCE(MAX(number), 0) FROM training_run)"
    op.get_bind().execute(
        text(f"UPDATE {_TABLE} SET after_run = {newest} WHERE after_run IS NULL")  # noqa: S608
    )
