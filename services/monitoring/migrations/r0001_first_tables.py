"""Revision 0001 of monitoring's tables: those that were there before Alembic.

Databases that an earlier program made have these tables. They are left as they are.
"""

from typing import Final

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from slipstream.stores.metadata import new_metadata

revision: Final = "0001"
down_revision: Final = None

_tables: Final = new_metadata()
Table(
    "monitoring_slates",
    _tables,
    Column("recommendation_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False, index=True),
    Column("answered_by", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("items", Text, nullable=False),
    Column("features", Text, nullable=False),
    Column("clicked", Integer, nullable=False),
    Column("converted", Integer, nullable=False),
    Index("monitoring_slates_of_visitor", "user_id", "timestamp"),
)
Table(
    "monitoring_responses",
    _tables,
    Column("event_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("converted", Boolean, nullable=False),
    Column("named", String, index=True),
    Column("attributed", String, index=True),
    Column("stored_at", BigInteger, nullable=False, index=True),
    Index("monitoring_responses_of_visitor", "user_id", "timestamp"),
)
Table(
    "monitoring_quality",
    _tables,
    Column("start", BigInteger, primary_key=True),
    Column("model_version", String, primary_key=True),
    Column("answered_by", String, primary_key=True),
    Column("slates", BigInteger, nullable=False),
    Column("shown", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("clicked_slates", BigInteger, nullable=False),
    Column("clicked_items", BigInteger, nullable=False),
    Column("converted_slates", BigInteger, nullable=False),
    Column("converted_items", BigInteger, nullable=False),
)
Table(
    "monitoring_watermarks",
    _tables,
    Column("topic", String, primary_key=True),
    Column("event_time", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
)
Table(
    "monitoring_model_events",
    _tables,
    Column("version", String, primary_key=True),
    Column("event", String, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True),
    Column("body", Text, nullable=False),
)
Table(
    "monitoring_streaks",
    _tables,
    Column("rule", String, primary_key=True),
    Column("failing", Integer, nullable=False),
    Column("passing", Integer, nullable=False),
)
Table(
    "monitoring_alerts",
    _tables,
    Column("alert_id", String, primary_key=True),
    Column("rule", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("summary", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("action", String, nullable=False),
    Column("opened_at", BigInteger, nullable=False, index=True),
    Column("checked_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("announced", Boolean, nullable=False, index=True),
)


def upgrade(op: Operations) -> None:
    """Make the tables that do not exist."""
    _tables.create_all(op.get_bind())
