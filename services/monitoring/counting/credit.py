"""The credit of responses to places of slates, and the sums of a period. Computed by DuckDB.

A response is credited to one place of one slate of the same person:

* the slate that it names, if that has the item, was made before, and no longer than `NAMED_MS` ago;
* a cart or a purchase without such a slate: that of the person's last credited click or cart of the
  item, within the days of credit; a refund: that of the last purchase of the item;
* else the newest slate of the last `window_ms` with the item, for responses that name none.

Of a place, the first click and the first cart count. The result depends on the rows alone, not on
their order or repetition. Persons are visitors and the users that they became.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from slipstream.contracts.page_visitors import APART
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import MOST_VALUE

BUCKET_MS: Final = 300_000
# Longest time from a slate to a response that names it.
NAMED_MS: Final = 72 * HOUR_MS
# Seconds of a bucket with an event or a slate from which a visitor counts as scripted: a person
# reaches 43 in twice that time (docs/measurements/quality.md#scripted-visitors).
SCRIPTED_S: Final = 100
# Visitors below which a group is hidden.
FEWEST_VISITORS: Final = 10
_MEMORY: Final = "128MB"
_SQL: Final = Path(__file__).with_name("credit.sql").read_text("utf-8")

# Columns of the lake that are read.
SLATE_COLUMNS: Final = (
    *("recommendation_id", "user_id", "timestamp", "items", "model_version", "placement"),
    *("experiment", "variant", "teams", "features", "purpose", "substituted", "latency_ms"),
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
        # Empty for purchases and refunds that nothing led to.
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
_IDENTITIES: Final = pa.schema([("visitor", pa.string()), ("person", pa.string())])
_PAIRS: Final = pa.schema([("visitor", pa.string()), ("item_id", pa.string())])
_DESIGNS: Final = pa.schema(
    [("experiment", pa.string()), ("since", pa.int64()), ("revision", pa.int64())]
)

_SUMMED: Final = pa.schema(
    [
        *(("start", pa.int64()), ("topic_id", pa.string())),
        *(("partition", pa.int32()), ("last_offset", pa.int64())),
    ]
)


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


class Touched(NamedTuple):
    """The ids by which a period's identities, earlier credits and slates are looked up.

    Attributes:
        pairs: Each `visitor` of responses and impressions, by every id that events have, with each
            `item_id`, once.
        named: Slates that they name.
    """

    pairs: pa.Table
    named: set[str]


class Counted(NamedTuple):
    """The counts of a period.

    Attributes:
        credits: Rows of `CREDITS`: first clicks and carts of places, all purchases and refunds.
        sums: For each bucket, currency and combination of `DIMENSIONS` the `SUMS`, and `visitors`,
            the least `FEWEST_VISITORS` of their visitors' hashes, which are sums' sketch of them.
        participants: Sums of slates by experiment, revision, visitor and variant, of those slates
            that were not summed yet.
        summed: Bucket, topic, partition and last offset of all slates that are summed now.
        lists: Slates of the period by bucket, model version and answering step: their number, that
            of those with items, and that of all items.
    """

    credits: pa.Table
    sums: pa.Table
    participants: pa.Table
    summed: pa.Table
    lists: pa.Table


def touched(events: pa.Table) -> Touched:
    """The ids in the events of a period, which have items and the columns `EVENT_COLUMNS`."""
    user_ids, items = events["user_id"], events["item_id"]
    pages = pc.replace_substring_regex(user_ids, f"{APART}$", "")
    pairs = [pa.table([user_ids, items], _PAIRS)]
    for ids in (pages, events["anonymous_id"]):  # mostly the same
        others = pc.not_equal(ids, user_ids)
        pairs.append(pa.table([ids, items], _PAIRS).filter(others))
    both = pa.concat_tables(pairs)
    named = pc.unique(events["recommendation_id"]).to_pylist()
    return Touched(both.group_by(both.column_names).aggregate([]), {*named} - {None, ""})


def counted(
    period: Period,
    slates: pa.Table,
    events: pa.Table,
    past: pa.Table,
    identities: Mapping[str, str],
    designs: Iterable[tuple[str, int, int]],
    summed: Iterable[tuple[int, str, int, int]],
    rules: Rules,
) -> Counted:
    """Count a period whole.

    Args:
        period: The period.
        slates: Rows with `SLATE_COLUMNS` of the period, of `window_ms` before it, and those that
            its events name.
        events: Rows with `EVENT_COLUMNS` of the period. Others are left out.
        past: The earlier credits (`CREDITS`) of visitors and items that the events touch.
        identities: The user of each visitor that became one, of those that the events touch.
        designs: Name of an experiment, time (ms) since when its visitors are assigned so, revision.
        summed: Bucket, topic, partition and last offset of slates that are in experiments' sums.
        rules: Limits of credit.
    """
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
    spill = str(Path(gettempdir()) / "slipstream-counting")
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY,
        "temp_directory": spill,
    }
    with duckdb.connect(config=config) as db:
        for name, value in variables.items():
            db.execute(f"SET VARIABLE {name} = $value", {"value": value})
        db.register("slates", slates)
        db.register("events", events)
        db.register("past", past)
        db.register("identities", table_of(_IDENTITIES, identities.items()))
        db.register("designs", table_of(_DESIGNS, designs))
        db.register("summed", table_of(_SUMMED, summed))
        db.register("no_credits", CREDITS.empty_table())
        db.execute("CREATE TABLE credits AS SELECT * FROM no_credits")
        db.execute(_SQL)
        credits = db.sql("SELECT * FROM credits ORDER BY at_ms, event_id").to_arrow_table()
        views = (db.view(name).to_arrow_table() for name in ("participants", "summed_now", "lists"))
        return Counted(credits.cast(CREDITS), db.table("sums").to_arrow_table(), *views)


def table_of(schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> pa.Table:
    """A table of rows, each in the order of the columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(each, kind) for each, kind in zip(columns, schema.types, strict=True)],
        schema=schema,
    )
