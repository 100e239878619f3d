"""The SQL tables of answers, shadows, windows, watermarks, model events, audit."""

from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
)

from services.monitoring.answers import AnswerKey
from services.monitoring.click_trend import ClickSums
from slipstream.contracts.slates import RecordedSlate
from slipstream.stores.metadata import audit_table, new_metadata

TABLES: Final = new_metadata()
# Who did what by a request, in every table of monitoring.
AUDIT: Final = audit_table("monitoring_audit", TABLES)

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
    # Share of the shown list's items that stand in it; null where it was not compared.
    Column("overlap", Float),
    Index("monitoring_shadows_of_experiment", "experiment", "timestamp"),
)
# Lists by the beginning of their time, with a sketch of their latencies (`answers.py`).
answers = Table(
    "monitoring_answers",
    TABLES,
    Column("start", BigInteger, primary_key=True),
    *(Column(name, String, primary_key=True) for name in AnswerKey._fields[1:]),
    *(Column(name, BigInteger, nullable=False) for name in ("slates", "shown", "items", "timed")),
    Column("total_ms", Float, nullable=False),
    Column("squares", Float, nullable=False),
    Column("bins", LargeBinary, nullable=False),
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

starts = Table(
    "monitoring_starts",
    TABLES,
    Column("started_at", BigInteger, primary_key=True),
    Column("service", String, primary_key=True),
)


def shadow_row(slate: RecordedSlate, overlap: float | None) -> dict[str, Any]:
    """The row of a shadow, and the share of the shown list that stands in it."""
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
        "overlap": overlap,
    }
