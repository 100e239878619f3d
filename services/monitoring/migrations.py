"""Migrations of monitoring's tables, oldest first."""

from typing import Any, Final

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    column,
    inspect,
)

from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.stores.lease import lease_tables
from slipstream.stores.metadata import new_metadata
from slipstream.stores.migrations import Migrations, add_missing_columns


def _numbers(*names: str) -> list[Column[int]]:
    """Columns of whole numbers that every row has."""
    return [Column(name, BigInteger, nullable=False) for name in names]


def _names(*names: str) -> list[Column[str]]:
    """Columns of texts that are a part of the primary key."""
    return [Column(name, String, primary_key=True) for name in names]


def _first_tables(op: Operations) -> None:
    """Make the tables from before Alembic; those that an earlier program made stay as they are."""
    tables = new_metadata()
    Table(
        "monitoring_slates",
        tables,
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
        tables,
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
        tables,
        Column("start", BigInteger, primary_key=True),
        *_names("model_version", "answered_by"),
        *_numbers("slates", "shown", "items"),
        *_numbers("clicked_slates", "clicked_items", "converted_slates", "converted_items"),
    )
    Table(
        "monitoring_watermarks",
        tables,
        Column("topic", String, primary_key=True),
        *_numbers("event_time", "heard_at"),
    )
    Table(
        "monitoring_model_events",
        tables,
        Column("version", String, primary_key=True),
        Column("event", String, primary_key=True),
        Column("timestamp", BigInteger, primary_key=True),
        Column("body", Text, nullable=False),
    )
    Table(
        "monitoring_streaks",
        tables,
        Column("rule", String, primary_key=True),
        Column("failing", Integer, nullable=False),
        Column("passing", Integer, nullable=False),
    )
    Table(
        "monitoring_alerts",
        tables,
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
    tables.create_all(op.get_bind())


def _lease(op: Operations) -> None:
    """Make the table of the lease."""
    lease_tables("monitoring").create_all(op.get_bind())


def _access_keys(op: Operations) -> None:
    """Make the tables of access keys and audit records."""
    tables = new_metadata()
    Table(
        "monitoring_access_keys",
        tables,
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
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("principal", String, nullable=False),
        Column("action", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("detail", Text, nullable=False),
        Column("request_id", String, nullable=False),
    )
    tables.create_all(op.get_bind())


def _erasures(op: Operations) -> None:
    """Make the tables of erasures and of the visitors that they remove."""
    tables = new_metadata()
    Table(
        "monitoring_erasures",
        tables,
        Column("erasure_id", String, primary_key=True),
        Column("asked_at", BigInteger),
        Column("told_at", BigInteger),
        Column("cut", Text),
        Column("rows_deleted", BigInteger),
        Column("deleted_at", BigInteger),
        Column("overwritten_at", BigInteger),
        Column("overwritten_how", Text),
    )
    Table(
        "monitoring_erasure_visitors",
        tables,
        Column("erasure_id", String, primary_key=True),
        Column("visitor_id", String, primary_key=True),
    )
    tables.create_all(op.get_bind())


def _key_names(op: Operations) -> None:
    """Make the table of access keys' names."""
    tables = new_metadata()
    Table(
        "monitoring_access_key_names",
        tables,
        Column("name", String, primary_key=True),
        Column("changes", BigInteger, nullable=False),
    )
    tables.create_all(op.get_bind())


def _named_records(tables: MetaData, kind: str, content: str) -> None:
    """Declare the table of a kind of records and that of their revisions."""
    for name, is_newest in ((f"monitoring_{kind}s", True), (f"monitoring_{kind}_revisions", False)):
        Table(
            name,
            tables,
            Column("name", String(64), primary_key=True),
            Column("revision", Integer, primary_key=not is_newest, nullable=False),
            Column(content, Text, nullable=False),
            Column("deleted", Boolean, nullable=False),
            Column("changed_at", BigInteger, nullable=False),
            Column("changed_by", String, nullable=False),
            *([Column("published", Boolean, nullable=False, index=True)] if is_newest else []),
        )


def _placements(op: Operations) -> None:
    """Make the tables of placements and their revisions."""
    tables = new_metadata()
    _named_records(tables, "placement", "policy")
    tables.create_all(op.get_bind())


def _experiments(op: Operations) -> None:
    """Make the tables of experiments, and add the experiment to slates."""
    tables = new_metadata()
    _named_records(tables, "experiment", "design")
    tables.create_all(op.get_bind())
    add_missing_columns(
        op,
        "monitoring_slates",
        Column("experiment", String),
        Column("variant", String),
        Column("teams", Text),
    )
    op.create_index(
        "monitoring_slates_of_experiment",
        "monitoring_slates",
        ["experiment", "user_id"],
        if_not_exists=True,
    )


def _shadows(op: Operations) -> None:
    """Make the table of shadows, and add to slates what made them and how long it took."""
    tables = new_metadata()
    Table(
        "monitoring_shadows",
        tables,
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
    tables.create_all(op.get_bind())
    add_missing_columns(
        op, "monitoring_slates", Column("substituted", String), Column("latency_ms", Float)
    )


def _erasure_marks(op: Operations) -> None:
    """Make the table of erased visitors' marks."""
    tables = new_metadata()
    Table(
        "monitoring_erasure_marks",
        tables,
        Column("digest", String, primary_key=True),
        Column("asked_at", BigInteger, nullable=False, index=True),
        Column("slates_until", BigInteger, nullable=False),
    )
    tables.create_all(op.get_bind())


def _page_keys(op: Operations) -> None:
    """Add the public keys that verify page tokens."""
    add_missing_columns(
        op, "monitoring_access_keys", Column("page_key", String, nullable=False, server_default="")
    )


def _acknowledgements(op: Operations) -> None:
    """Make the table of acknowledged alerts."""
    tables = new_metadata()
    Table(
        "monitoring_acknowledgements",
        tables,
        Column("alert_id", String, primary_key=True),
        Column("at", BigInteger, nullable=False),
        Column("principal", String, nullable=False),
        Column("remark", Text, nullable=False),
    )
    tables.create_all(op.get_bind())


def _windows(op: Operations) -> None:
    """Make the tables of samples, windows and sums of clicks; add the placement to slates."""
    tables = new_metadata()
    Table(
        "monitoring_samples",
        tables,
        Column("length_ms", BigInteger, primary_key=True),
        Column("start", BigInteger, primary_key=True),
        Column("visitor", String, primary_key=True),
        Column("user_id", String, nullable=False, index=True),
        Column("share", Float, nullable=False),
        Column("body", Text, nullable=False),
    )
    Table(
        "monitoring_windows",
        tables,
        Column("length_ms", BigInteger, primary_key=True),
        Column("start", BigInteger, primary_key=True),
        Column("version", String, nullable=False),
        Column("faulty", Boolean, nullable=False),
        Column("visitors", Float, nullable=False),
        Column("body", Text, nullable=False),
    )
    sums = ("visitors", "slates", "clicked", "slates_squared", "clicked_squared", "product")
    Table(
        "monitoring_click_sums",
        tables,
        Column("length_ms", BigInteger, primary_key=True),
        Column("start", BigInteger, primary_key=True),
        Column("placement", String, primary_key=True),
        *(Column(name, Float, nullable=False) for name in sums),
    )
    tables.create_all(op.get_bind())
    add_missing_columns(op, "monitoring_slates", Column("placement", String))


def _visitor_sums(op: Operations) -> None:
    """Make the tables of experiments' sums."""
    tables = new_metadata()
    Table(
        "monitoring_experiment_visitors",
        tables,
        Column("experiment", String(64), primary_key=True),
        Column("revision", Integer, primary_key=True),
        Column("user_id", String, primary_key=True),
        Column("variant", String(64), primary_key=True),
        *_numbers("first_at", "last_at", "slates", "empty", "failed"),
        *_numbers("clicked_slates", "clicked_items", "converted_slates"),
        *_numbers(
            "purchases", "revenue", "timed", "latency", "before_clicked", "before_converted", "vote"
        ),
        Column("voted_by", String, nullable=False),
        Index("monitoring_experiment_visitors_of_visitor", "user_id"),
        sqlite_with_rowid=False,
    )
    Table(
        "monitoring_experiment_currencies",
        tables,
        Column("experiment", String(64), primary_key=True),
        Column("revision", Integer, primary_key=True),
        Column("currency", String(3), primary_key=True),
        Column("purchases", BigInteger, nullable=False),
    )
    tables.create_all(op.get_bind())


def _outcomes(op: Operations) -> None:
    """Sums of outcomes, credits, and the users that visitors became."""
    tables = new_metadata()
    Table(
        "monitoring_outcomes",
        tables,
        Column("length_ms", BigInteger, primary_key=True),
        Column("start", BigInteger, primary_key=True),
        *_names("placement", "model_version", "experiment", "variant"),
        Column("revision", Integer, primary_key=True),
        Column("position", Integer, primary_key=True),
        *_names("source", "cohort", "currency"),
        *_numbers("answers", "impressions", "clicks", "carts", "purchases", "revenue", "refunds"),
        Column("visitors", LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    Table(
        "monitoring_credits",
        tables,
        Column("event_id", String, primary_key=True),
        Column("kind", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("item_id", String, nullable=False),
        Column("at_ms", BigInteger, nullable=False, index=True),
        Column("recommendation_id", String, nullable=False),
        Column("placement", String, nullable=False),
        Column("model_version", String, nullable=False),
        Column("experiment", String, nullable=False),
        Column("variant", String, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("position", Integer, nullable=False),
        Column("source", String, nullable=False),
        Column("cohort", String, nullable=False),
        Column("value", BigInteger),
        Column("currency", String, nullable=False),
        Index("monitoring_credits_of_visitor", "user_id", "item_id"),
    )
    Table(
        "monitoring_identities",
        tables,
        Column("visitor", String, primary_key=True),
        Column("person", String, nullable=False, index=True),
    )
    Table(
        "monitoring_counted",
        tables,
        Column("name", String, primary_key=True),
        Column("body", Text, nullable=False),
    )
    tables.create_all(op.get_bind())


def _alert_rules(op: Operations) -> None:
    """Make the tables of alert rules and their revisions; add the runbook to alerts."""
    tables = new_metadata()
    _named_records(tables, "alert_rule", "definition")
    tables.create_all(op.get_bind())
    add_missing_columns(
        op, "monitoring_alerts", Column("runbook", Text, nullable=False, server_default="")
    )


def _notices(op: Operations) -> None:
    """Make the table of notices of alerts."""
    tables = new_metadata()
    Table(
        "monitoring_notices",
        tables,
        Column("alert_id", String, primary_key=True),
        Column("transition", String(16), primary_key=True),
        Column("channel", String, primary_key=True),
        Column("queued_at", BigInteger, nullable=False),
        Column("due_at", BigInteger, index=True),
        Column("delivered_at", BigInteger),
        Column("attempts", Text, nullable=False),
    )
    tables.create_all(op.get_bind())


def _sessions(op: Operations) -> None:
    """Make the table of sessions."""
    tables = new_metadata()
    Table(
        "monitoring_sessions",
        tables,
        Column("digest", String(64), primary_key=True),
        Column("mark", String(80), nullable=False),
        Column("principal", String, nullable=False),
        Column("scopes", Text, nullable=False),
        *_numbers("created_at", "ends_at"),
    )
    tables.create_all(op.get_bind())


def _sums_from_the_lake(op: Operations) -> None:
    """Make the table of how far experiments' slates are summed, and count the lake again."""
    tables = new_metadata()
    Table(
        "monitoring_counted_slates",
        tables,
        Column("start", BigInteger, primary_key=True),
        Column("topic_id", String, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("last_offset", BigInteger, nullable=False),
    )
    tables.create_all(op.get_bind())
    of_experiments = column("experiment", String) != ""
    only: dict[str, Any] = {"sqlite_where": of_experiments, "postgresql_where": of_experiments}
    name = "monitoring_credits_of_slate"
    op.create_index(name, "monitoring_credits", ["recommendation_id"], if_not_exists=True, **only)
    add_missing_columns(op, "monitoring_experiment_visitors", Column("linked", Boolean))
    present = inspect(op.get_bind()).get_columns("monitoring_experiment_visitors")
    if all(each["name"] != "before_slates" for each in present):
        return
    # Sums of a program that was never released: they were not counted from the lake.
    op.drop_column("monitoring_experiment_visitors", "before_slates")
    op.execute("DELETE FROM monitoring_experiment_visitors")
    op.execute("DELETE FROM monitoring_experiment_currencies")
    op.execute("DELETE FROM monitoring_counted WHERE name <> 'hash_key'")


def _answers(op: Operations) -> None:
    """Make the tables of answers' sums, and of how far they go."""
    tables = new_metadata()
    Table(
        "monitoring_answers",
        tables,
        Column("start", BigInteger, primary_key=True),
        *_names("model_version", "answered_by", "experiment", "variant", "substituted"),
        *_numbers("slates", "shown", "items", "timed"),
        Column("total_ms", Float, nullable=False),
        Column("squares", Float, nullable=False),
        Column("bins", LargeBinary, nullable=False),
    )
    Table(
        "monitoring_added",
        tables,
        Column("source", String, primary_key=True),
        *_numbers("last_offset"),
    )
    tables.create_all(op.get_bind())


def _lists(op: Operations) -> None:
    """Make the table of lists, and let credits tell of theirs; count the lake again for it."""
    tables = new_metadata()
    columns = (
        *("start", "model_version", "answered_by", "slates", "shown", "items"),
        *("clicked_slates", "clicked_items", "converted_slates", "converted_items"),
    )
    Table(
        "monitoring_lists",
        tables,
        Column("start", BigInteger, primary_key=True),
        *_names(*columns[1:3]),
        *_numbers(*columns[3:]),
        sqlite_with_rowid=False,
    )
    tables.create_all(op.get_bind())
    # One index of all credits comes in the place of that of experiments'.
    op.drop_index("monitoring_credits_of_slate", "monitoring_credits", if_exists=True)
    name = "monitoring_credits_of_list"
    op.create_index(name, "monitoring_credits", ["recommendation_id"], if_not_exists=True)
    present = inspect(op.get_bind()).get_columns("monitoring_credits")
    if any(each["name"] == "listed_at" for each in present):
        return
    add_missing_columns(
        op,
        "monitoring_credits",
        Column("listed_at", BigInteger),
        Column("list_model", String),
        Column("answered_by", String),
    )
    # The counter counts lists of the last three days.
    names, before = ", ".join(columns), now_ms() - 3 * DAY_MS
    op.execute(
        f"INSERT INTO monitoring_lists ({names}) SELECT {names} FROM monitoring_quality "  # noqa: S608
        f"WHERE start < {before - before % 300_000}"
    )
    op.execute("DELETE FROM monitoring_counted WHERE name <> 'hash_key'")


def _overlap(op: Operations) -> None:
    """Add to shadows how far they have the items of what was shown."""
    add_missing_columns(op, "monitoring_shadows", Column("overlap", Float))


def _starts(op: Operations) -> None:
    """Make the table of when services started."""
    tables = new_metadata()
    Table(
        "monitoring_starts",
        tables,
        Column("started_at", BigInteger, primary_key=True),
        *_names("service"),
    )
    tables.create_all(op.get_bind())


MIGRATIONS: Final = Migrations(
    "monitoring_schema_version",
    (
        _first_tables,
        _lease,
        _access_keys,
        _erasures,
        _key_names,
        _placements,
        _experiments,
        _shadows,
        _erasure_marks,
        _page_keys,
        _acknowledgements,
        _windows,
        _visitor_sums,
        _outcomes,
        _alert_rules,
        _notices,
        _sessions,
        _sums_from_the_lake,
        _answers,
        _lists,
        _overlap,
        _starts,
    ),
)
