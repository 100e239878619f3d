"""The SQL tables of counting: outcomes, lists, credits, experiments' sums, and progress."""

from dataclasses import fields
from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from services.monitoring.counting.credit import DIMENSIONS, SUMS
from services.monitoring.quality import Counts
from services.monitoring.slate_tables import TABLES

_KINDS_OF_DIMENSIONS: Final = {"revision": Integer, "position": Integer}
outcomes: Final = Table(
    "monitoring_outcomes",
    TABLES,
    Column("length_ms", BigInteger, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    *(
        Column(name, _KINDS_OF_DIMENSIONS.get(name, String), primary_key=True)
        for name in (*DIMENSIONS, "currency")
    ),
    # Money is in thousandths of the currency.
    *(Column(name, BigInteger, nullable=False) for name in SUMS),
    # The least hashes of the visitors, 4 bytes each.
    Column("visitors", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
credits: Final = Table(
    "monitoring_credits",
    TABLES,
    Column("event_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("recommendation_id", String, nullable=False),
    *(Column(name, _KINDS_OF_DIMENSIONS.get(name, String), nullable=False) for name in DIMENSIONS),
    Column("value", BigInteger),
    Column("currency", String, nullable=False),
    # Of the list; null where nothing led to it.
    Column("listed_at", BigInteger),
    Column("list_model", String),
    Column("answered_by", String),
    Index("monitoring_credits_of_visitor", "user_id", "item_id"),
    Index("monitoring_credits_of_list", "recommendation_id"),
)
in_experiment: Final = credits.c.experiment != ""
# Lists by the five minutes in which they were answered, and what followed from them.
lists: Final = Table(
    "monitoring_lists",
    TABLES,
    Column("start", BigInteger, primary_key=True),
    Column("model_version", String, primary_key=True),
    Column("answered_by", String, primary_key=True),
    *(Column(counter.name, BigInteger, nullable=False) for counter in fields(Counts)),
    sqlite_with_rowid=False,
)
identities: Final = Table(
    "monitoring_identities",
    TABLES,
    Column("visitor", String, primary_key=True),
    Column("person", String, nullable=False, index=True),
)
# JSON by name: how far each table of the lake is counted, the buckets that are owed another count,
# and the key of the visitors' hashes.
progress: Final = Table(
    "monitoring_counted",
    TABLES,
    Column("name", String, primary_key=True),
    Column("body", Text, nullable=False),
)
# How far slates of experiments are summed, by bucket and source.
counted_slates: Final = Table(
    "monitoring_counted_slates",
    TABLES,
    Column("start", BigInteger, primary_key=True),
    Column("topic_id", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("last_offset", BigInteger, nullable=False),
)
# The sums of an experiment's visitors, by the revision that its present assignment began with. They
# outlive the slates. All are whole numbers, so that no order of adding changes them.
visitor_sums: Final = Table(
    "monitoring_experiment_visitors",
    TABLES,
    Column("experiment", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("variant", String(64), primary_key=True),
    # Times of the first and the last slate.
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in (
            # Slates, those without items, and those that the champion made for a variant's model.
            *("slates", "empty", "failed"),
            *("clicked_slates", "clicked_items", "converted_slates"),
            # Items that were bought, and their value in thousandths of the currency.
            *("purchases", "revenue"),
            # Slates with a latency, and its sum in tenths of a millisecond.
            *("timed", "latency"),
            # Clicked items, and carts and purchases, from before the first slate and outside the
            # experiment.
            *("before_clicked", "before_converted"),
        )
    ),
    # Whether the id became a user or is one, who may have more; null for no.
    Column("linked", Boolean),
    Index("monitoring_experiment_visitors_of_visitor", "user_id"),
    sqlite_with_rowid=False,
)
# Purchases with a value, by currency; empty where events name none.
experiment_currencies: Final = Table(
    "monitoring_experiment_currencies",
    TABLES,
    Column("experiment", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("purchases", BigInteger, nullable=False),
)
