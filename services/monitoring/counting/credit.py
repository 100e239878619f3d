"""The credit of responses to places of slates, and the sums of a period. Computed by DuckDB.

A response is credited to one place of one slate of the same person:

* the slate that it names, if that has the item, was made before, and no longer than `NAMED_MS` ago;
* a cart or a purchase without such a slate: that of the person's last credited click or cart of the
  item, within the days of credit; a refund: that of the last purchase of the item;
* else the newest slate of the last `window_ms` with the item, for responses that name none.

Of a place, the first click and the first cart count. The result depends on the rows alone, not on
their order or repetition. Persons are visitors and the users that they became.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from services.monitoring.counting.visitor_sums import Response
from slipstream.contracts.page_visitors import APART
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import MOST_VALUE
from slipstream.stores.tables import INTERACTIONS, RECOMMENDATIONS, SCHEMAS

BUCKET_MS: Final = 300_000
# Longest time from a slate to a response that names it.
NAMED_MS: Final = 72 * HOUR_MS
# Seconds of a bucket with an event or a slate from which a visitor counts as scripted: a person
# reaches 43 in twice that time (docs/measurements/quality.md#scripted-visitors).
SCRIPTED_S: Final = 100
# Visitors below which a group is hidden.
FEWEST_VISITORS: Final = 10
_MEMORY: Final = "128MB"
_LOOKUPS, _CREDIT = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("lookups.sql", "credit.sql")
)

# Columns of the lake that are read.
SLATE_COLUMNS: Final = (
    *("recommendation_id", "user_id", "timestamp", "items", "model_version", "placement"),
    *("experiment", "variant", "features", "purpose", "substituted", "latency_ms"),
    *("answered_by", "topic_id", "partition", "offset"),
)
EVENT_COLUMNS: Final = (
    *("event_id", "event_type", "user_id", "anonymous_id", "item_id", "timestamp", "value"),
    *("recommendation_id", "properties", "topic_id", "partition", "offset"),
)
# What outcomes are grouped by. `position` is the place in the slate, from 0, and -1 without credit;
# `cohort` is that of the visitor.
DIMENSIONS: Final = (
    *("placement", "model_version", "experiment", "variant", "revision"),
    *("position", "source", "cohort"),
)
SUMS: Final = ("answers", "impressions", "clicks", "carts", "purchases", "revenue", "refunds")
# The cohort of visitors who act as no person does; others are `new` or `returning`.
SCRIPTED: Final = "scripted"
# Time after a change of a design in which a process may still answer by the earlier one.
SETTLING_MS: Final = 5_000

CREDITS: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("kind", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("at_ms", pa.int64()),
        # Empty for what nothing led to, and for carts of a place that has an earlier one.
        ("recommendation_id", pa.string()),
        *((name, pa.string()) for name in DIMENSIONS[:4]),
        ("revision", pa.int64()),
        ("position", pa.int64()),
        ("source", pa.string()),
        ("cohort", pa.string()),
        # In thousandths of the currency.
        ("value", pa.int64()),
        ("currency", pa.string()),
        # The list: its time, model version and step. Null where nothing led to it.
        ("listed_at", pa.int64()),
        ("list_model", pa.string()),
        ("answered_by", pa.string()),
    ]
)
# The tables that rows are added to. In `identities`, `person` is the user that a visitor became;
# `designs` has the times (ms) since when visitors are assigned by a revision, and `summed` the last
# offsets of slates that are in experiments' sums. The others are what SQL has before it is changed:
# `credits_before`, the period's credits; `renewed`, their users; `responded`, their slates in
# experiments; `responses_before`, all responses to these; `credited`, their slates of any kind;
# `erased`, users, and when erasures began.
TABLES: Final = {
    "events": pa.schema([SCHEMAS[INTERACTIONS].field(name) for name in EVENT_COLUMNS]),
    "slates": pa.schema([SCHEMAS[RECOMMENDATIONS].field(name) for name in SLATE_COLUMNS]),
    "identities": pa.schema([("visitor", pa.string()), ("person", pa.string())]),
    "designs": pa.schema(
        [("experiment", pa.string()), ("since", pa.int64()), ("revision", pa.int64())]
    ),
    "summed": pa.schema(
        [
            *(("start", pa.int64()), ("topic_id", pa.string())),
            *(("partition", pa.int32()), ("last_offset", pa.int64())),
        ]
    ),
    "past": CREDITS,
    "credits": CREDITS,
    "credits_before": CREDITS,
    "renewed": pa.schema([("user_id", pa.string())]),
    "responded": pa.schema([("recommendation_id", pa.string())]),
    "credited": pa.schema([("recommendation_id", pa.string())]),
    "responses_before": pa.schema([CREDITS.field(name) for name in Response._fields]),
    "erased": pa.schema([("user_id", pa.string()), ("asked_at", pa.int64())]),
}
# What of the rows that arrive is kept, where that is not all.
_KEPT: Final = {
    # Properties, which may be long, stay with what money is read from.
    "events": """
        SELECT * REPLACE (CASE WHEN event_type IN ('purchase', 'remove') THEN properties END
            AS properties)
        FROM arriving WHERE item_id IS NOT NULL""",
    # Lists made ahead of time may be many and long, and no visitor has seen them.
    "slates": """
        FROM arriving WHERE purpose = 'shown' AND CASE
            WHEN "timestamp" >= getvariable('since') THEN true
            WHEN "timestamp" >= getvariable('since') - getvariable('window_ms')
                THEN user_id IN (FROM visitors UNION ALL FROM linked)
            ELSE recommendation_id IN (FROM named) END""",
    "identities": "FROM arriving ANTI JOIN identities USING (visitor)",
    # A person with many ids may have touched many items: not each id with each item.
    "past": """
        SELECT a.* FROM arriving a LEFT JOIN identities ON visitor = a.user_id
        SEMI JOIN touched t ON t.person = coalesce(identities.person, a.user_id)
            AND t.item_id = a.item_id""",
}


class Period(NamedTuple):
    """A time from `since` to before `until`, in ms: whole buckets."""

    since: int
    until: int


class Rules(NamedTuple):
    """The limits of credit.

    Attributes:
        window_ms: Age of a slate up to which it is credited with responses that name none.
        credit_ms: Age of a click or cart up to which it is credited with purchases.
        hash_key: Key of the hashes of visitors.
    """

    window_ms: int = 1_800_000
    credit_ms: int = 30 * DAY_MS
    hash_key: str = ""


def bounded_database() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory, of which `_MEMORY` is used at most. What it can't hold is in files."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY,
        "temp_directory": str(Path(gettempdir()) / "slipstream-counting"),
    }
    return duckdb.connect(config=config)


class PeriodCount:
    """The count of one period, whole, in a DuckDB of its own.

    Rows come and go in batches, and DuckDB holds `_MEMORY` of them, and the others in files: a
    flooded bucket takes time, and no more memory. When it is made it has the views of lookups.sql.
    Then come the rows that they name (identities before slates and credits of the past), and
    `compute` makes the tables and views of credit.sql. `close` it at the end.

    Args:
        events: Rows with `EVENT_COLUMNS` of the period. Others are left out.
    """

    def __init__(self, period: Period, rules: Rules, events: Iterable[pa.RecordBatch]) -> None:
        variables = {
            **period._asdict(),
            **rules._asdict(),
            "bucket_ms": BUCKET_MS,
            "named_ms": NAMED_MS,
            "scripted_s": SCRIPTED_S,
            "fewest_visitors": FEWEST_VISITORS,
            "most_value": MOST_VALUE,
            "apart": APART,
            "settling_ms": SETTLING_MS,
        }
        self._db = bounded_database()
        for name, value in variables.items():
            self._db.execute(f"SET VARIABLE {name} = $value", {"value": value})
        for name, schema in TABLES.items():
            self._db.register("arriving", schema.empty_table())
            self._db.execute(f"CREATE TABLE {name} AS FROM arriving")
        self.add("events", events)
        self._db.execute(_LOOKUPS)

    def close(self) -> None:
        """Forget all rows."""
        self._db.close()

    def add(self, name: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows to one of `TABLES`. An error of the batches is raised as it is."""
        failures = list[Exception]()

        def watched() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except Exception as error:
                failures.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(TABLES[name], watched())
        self._db.register("arriving", reader)
        try:
            self._db.execute(f"INSERT INTO {name} {_KEPT.get(name, 'FROM arriving')}")
        except duckdb.Error:
            if failures:
                # DuckDB makes one of its own of it.
                raise failures[0] from None
            raise

    def add_rows(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows, each in the order of the columns."""
        found = table_of(TABLES[name], rows)
        if found.num_rows:
            self.add(name, found.to_batches())

    def compute(self) -> None:
        """Compute credits and sums of what was added."""
        self._db.execute(_CREDIT)

    def batches(self, name: str, most: int = 10_000) -> Iterator[pa.RecordBatch]:
        """The rows of a table or view, `most` at once. Meanwhile others can be added."""
        # Another connection, which does not have the variables.
        with self._db.cursor() as db:
            yield from db.sql(f"FROM {name}").to_arrow_reader(most)

    def table(self, name: str) -> pa.Table:
        """All rows of a table or view, in order."""
        return self._db.sql(f"FROM {name} ORDER BY ALL").to_arrow_table()


def table_of(schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> pa.Table:
    """A table of rows, each in the order of the columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(each, kind) for each, kind in zip(columns, schema.types, strict=True)],
        schema=schema,
    )
