"""The SQL tables of slates, responses, counts, windows, watermarks, audit."""

from dataclasses import fields
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from services.monitoring.attribution import Counts
from services.monitoring.click_trend import ClickSums
from slipstream.contracts.slates import RecordedSlate
from slipstream.stores.metadata import audit_table, new_metadata

TABLES: Final = new_metadata()
# Who did what by a request, in every table of monitoring.
AUDIT: Final = audit_table("monitoring_audit", TABLES)

slates = Table(
    "monitoring_slates",
    TABLES,
    Column("recommendation_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False, index=True),
    Column("answered_by", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("items", Text, nullable=False),
    # `{}` in new rows, as `teams` is null. Both stay for an earlier version, which may act during
    # an upgrade or after it.
    Column("features", Text, nullable=False),
    Column("clicked", Integer, nullable=False),
    Column("converted", Integer, nullable=False),
    # Null outside an experiment.
    Column("experiment", String),
    Column("variant", String),
    Column("teams", Text),
    # Why the champion made it for a variant's model. Older slates have no latency.
    Column("substituted", String),
    Column("latency_ms", Float),
    Column("placement", String),
    Index("monitoring_slates_of_visitor", "user_id", "timestamp"),
    Index("monitoring_slates_of_experiment", "experiment", "user_id"),
)
shadows = Table(
    "monitoring_shadows",
    TABLES,
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
responses = Table(
    "monitoring_responses",
    TABLES,
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
quality = Table(
    "monitoring_quality",
    TABLES,
    Column("start", BigInteger, primary_key=True),
    Column("model_version", String, primary_key=True),
    Column("answered_by", String, primary_key=True),
    *(Column(counter.name, BigInteger, nullable=False) for counter in fields(Counts)),
)
# Lists by the beginning of their time, with a sketch of their latencies (`answers.py`).
answers = Table(
    "monitoring_answers",
    TABLES,
    Column("start", BigInteger, primary_key=True),
    Column("model_version", String, primary_key=True),
    Column("answered_by", String, primary_key=True),
    Column("placement", String, primary_key=True),
    Column("experiment", String, primary_key=True),
    Column("variant", String, primary_key=True),
    Column("substituted", String, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in ("slates", "shown", "items", "timed")),
    Column("total_ms", Float, nullable=False),
    Column("squares", Float, nullable=False),
    Column("bins", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
# The offset up to which each source is in the answers.
added = Table(
    "monitoring_added",
    TABLES,
    Column("source", String, primary_key=True),
    Column("last_offset", BigInteger, nullable=False),
)
watermarks = Table(
    "monitoring_watermarks",
    TABLES,
    Column("topic", String, primary_key=True),
    Column("event_time", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
)
samples = Table(
    "monitoring_samples",
    TABLES,
    Column("length_ms", BigInteger, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("visitor", String, primary_key=True),
    Column("user_id", String, nullable=False, index=True),
    Column("share", Float, nullable=False),
    Column("body", Text, nullable=False),
)
windows = Table(
    "monitoring_windows",
    TABLES,
    Column("length_ms", BigInteger, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("version", String, nullable=False),
    Column("faulty", Boolean, nullable=False),
    Column("visitors", Float, nullable=False),
    Column("body", Text, nullable=False),
)
click_sums = Table(
    "monitoring_click_sums",
    TABLES,
    Column("length_ms", BigInteger, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("placement", String, primary_key=True),
    *(Column(name, Float, nullable=False) for name in ClickSums._fields),
)
model_events = Table(
    "monitoring_model_events",
    TABLES,
    Column("version", String, primary_key=True),
    Column("event", String, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True),
    Column("body", Text, nullable=False),
)


def shadow_row(slate: RecordedSlate) -> dict[str, Any]:
    """The row of a shadow."""
    return {
        "recommendation_id": slate.recommendation_id,
        "user_id": slate.user_id,
        "timestamp": slate.timestamp,
        "experiment": slate.experiment,
        "variant": slate.variant,
        "shadow_of": slate.shadow_of,
        "model_version": slate.model_version or "",
        "items": orjson.dumps([item.item_id for item in slate.items]).decode(),
        "substituted": slate.substituted,
        "latency_ms": slate.latency_ms,
    }
