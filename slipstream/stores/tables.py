"""Tables of the lake: their columns, and how they are made.

A table has the columns of this version, or is refused. Tables and columns carry their descriptions
for whoever reads them.

For the engines of others, a column of milliseconds has a companion of the same name and `_utc`,
as Delta's timestamp. It is made when rows are appended, and nothing here reads it
(docs/adr/0062).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema

from slipstream.stores.delta import RECEIVED_DATE

INTERACTIONS: Final = "interactions"
CATALOG: Final = "catalog"
RECOMMENDATIONS: Final = "recommendations"
# What was erased when, without a name.
ERASURES: Final = "erasures"

_POSITION: Final = [("topic_id", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())]
_DATE: Final = [("received_date", pa.string())]
_SLATE_ITEM: Final = pa.struct(
    [("item_id", pa.string()), ("score", pa.float64()), ("source", pa.string())]
)

# Every table's columns. Times are ms since the epoch; `received_date` is "YYYY-MM-DD" (UTC);
# `attributes`, `properties`, `features`, `cut`, `rows`,
# `ends` and `circumstances` are JSON objects as text, `visitors` a list.
SCHEMAS: Final[dict[str, pa.Schema]] = {
    INTERACTIONS: pa.schema(
        [
            ("event_id", pa.string()),
            ("event_type", pa.string()),
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("timestamp", pa.int64()),
            ("received_at", pa.int64()),
            ("anonymous_id", pa.string()),
            ("session_id", pa.string()),
            ("value", pa.float64()),
            ("recommendation_id", pa.string()),
            ("position", pa.int64()),
            ("source", pa.string()),
            ("properties", pa.string()),
            *_POSITION,
            *_DATE,
            ("maybe_repeat", pa.bool_()),
            ("weight", pa.float64()),
            ("unlearned", pa.bool_()),
        ]
    ),
    CATALOG: pa.schema(
        [
            ("entity", pa.string()),
            ("entity_id", pa.string()),
            ("attributes", pa.string()),
            ("available", pa.bool_()),
            ("deleted", pa.bool_()),
            ("timestamp", pa.int64()),
            ("source", pa.string()),
            *_POSITION,
            ("by_browser", pa.bool_()),
            ("client_time", pa.bool_()),
            ("erasure_id", pa.string()),
            ("cut", pa.string()),
            ("proven", pa.bool_()),
        ]
    ),
    RECOMMENDATIONS: pa.schema(
        [
            ("recommendation_id", pa.string()),
            ("user_id", pa.string()),
            ("timestamp", pa.int64()),
            ("items", pa.list_(_SLATE_ITEM)),
            ("answered_by", pa.string()),
            ("model_version", pa.string()),
            ("variant", pa.string()),
            ("placement", pa.string()),
            ("features", pa.string()),
            ("latency_ms", pa.float64()),
            *_POSITION,
            *_DATE,
            ("purpose", pa.string()),
            ("experiment", pa.string()),
            ("placement_revision", pa.int64()),
            ("circumstances", pa.string()),
            ("substituted", pa.string()),
            ("shadow_of", pa.string()),
            ("propensities", pa.list_(pa.float64())),
            ("sampled", pa.bool_()),
        ]
    ),
    ERASURES: pa.schema(
        [
            ("erasure_id", pa.string()),
            ("erased_at", pa.int64()),
            ("rows", pa.string()),
            ("version", pa.int64()),
            ("ends", pa.string()),
            ("visitors", pa.string()),
            ("asked_at", pa.int64()),
            ("slates_until", pa.int64()),
        ]
    ),
}


SUFFIX: Final = "_utc"
# Columns of milliseconds by table.
_MILLIS: Final = {
    INTERACTIONS: ("timestamp", "received_at"),
    CATALOG: ("timestamp",),
    RECOMMENDATIONS: ("timestamp",),
    ERASURES: ("erased_at",),
}
_READ: Final = pa.timestamp("ms", "UTC")
# Delta has no other timestamps.
_STORED: Final = pa.timestamp("us", "UTC")


def stored_schema(table: str) -> pa.Schema:
    """The columns of a table as it is stored: those of `SCHEMAS`, and the timestamps."""
    schema = SCHEMAS[table]
    for column in _MILLIS[table]:
        schema = schema.append(pa.field(column + SUFFIX, _STORED))
    return schema


def with_timestamps(table: str, rows: pa.Table) -> pa.Table:
    """The rows, which have the columns of `SCHEMAS`, with their timestamps."""
    for column in _MILLIS[table]:
        rows = rows.append_column(column + SUFFIX, rows[column].cast(_READ).cast(_STORED))
    return rows


TABLES: Final[Mapping[str, str]] = {
    INTERACTIONS: "Interactions of visitors with items, each accepted event once",
    CATALOG: "Records of items, users and merges of visitors: every state, the newest counts",
    RECOMMENDATIONS: "Slates: the lists of recommendations that visitors were given",
    ERASURES: "Erasures of users that are done, without names",
}
_COMMON: Final[Mapping[str, str]] = {
    "topic_id": "Kafka's id of the topic that the row came by",
    "partition": "partition of that topic",
    "offset": "offset in that partition; with topic_id and partition it names the row",
    "received_date": "day of arrival (UTC), YYYY-MM-DD; the partitions, so filter on it first",
    "timestamp_utc": "timestamp as a timestamp",
}
_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    INTERACTIONS: {
        "event_id": "the client's messageId, unique",
        "event_type": "view, click, cart, purchase, impression, search, …; see docs/events.md",
        "user_id": "the user's id, or the anonymous id of a visitor who is not known",
        "item_id": "the item; null for events on none",
        "timestamp": "time of the event, ms since the epoch",
        "received_at": "time of arrival, ms since the epoch",
        "anonymous_id": "the anonymous id that was sent with user_id",
        "session_id": "the client's session",
        "value": "price, rating or amount, as the event type has it",
        "recommendation_id": "slate that the interaction follows from",
        "position": "place in that slate, the first is 0",
        "source": "name of the write key",
        "properties": "the event's other properties, a JSON object as text",
        "maybe_repeat": "whether the event was accepted while repeats could not be recognised",
        "weight": "weight in the item's demand; null for that of the type",
        "unlearned": "whether models, lists and the features of items leave the event out",
        "received_at_utc": "received_at as a timestamp",
    },
    CATALOG: {
        "entity": "item, user, user_patch (its changed attributes, null for removed ones), or"
        " identity (a merge of two visitors)",
        "entity_id": "id of the item or user",
        "attributes": "attributes or traits, a JSON object as text",
        "available": "whether the item may be recommended",
        "deleted": "whether the record deletes the entity",
        "timestamp": "time of the change, ms since the epoch",
        "source": "name of the write key",
        "by_browser": "whether a key for browsers sent it",
        "client_time": "whether the client named the time",
        "erasure_id": "id of the erasure that the record asks for",
        "cut": "last offsets that the erasure takes, a JSON object as text",
        "proven": "whether a token of the shop's server came with a page's link",
    },
    RECOMMENDATIONS: {
        "recommendation_id": "id of the slate, which interactions refer to",
        "user_id": "the visitor",
        "timestamp": "time of the answer, ms since the epoch",
        "items": "the items in their order, with score and the retriever behind it",
        "answered_by": "step that gave the first items, such as model or trending",
        "model_version": "version of the model; null without one",
        "variant": "the visitor's share of an experiment, champion outside of one",
        "placement": "place on the page that asked",
        "features": "features of the visitor at the answer, a JSON object as text",
        "latency_ms": "time that the answer took, ms",
        "purpose": "shown lists count as impressions; ranked, batch and shadow ones do not",
        "experiment": "the experiment that the visitor was in",
        "placement_revision": "revision of the placement's policy",
        "circumstances": "what the list was made from, a JSON object as text; null after a while",
        "substituted": "why the champion made the list of a variant: absent, failed or resting",
        "shadow_of": "slate that this one, which was never shown, shadows",
        "propensities": "probability of each item at its place, given those before; null where no"
        " item was drawn",
        "sampled": "whether the whole order was drawn; see docs/price.md",
    },
    ERASURES: {
        "erasure_id": "id of the erasure",
        "erased_at": "time, ms since the epoch",
        "rows": "rows deleted by table, a JSON object as text",
        "version": "version of the interactions without them",
        "ends": "last offsets of the topics at that time, a JSON object as text",
        "visitors": "digests of the visitors, a JSON list as text; null after 31 days",
        "asked_at": "time up to which events of theirs are left out, ms since the epoch",
        "slates_until": "time up to which slates of theirs are left out, ms since the epoch",
        "erased_at_utc": "erased_at as a timestamp",
    },
}


def column_comments(table: str) -> dict[str, str]:
    """The comment of each column that the table has, by name."""
    known = {**_COMMON, **_COLUMNS[table]}
    return {name: known[name] for name in stored_schema(table).names if name in known}


# The log remembers the files that no version needs any more for as long as it is kept itself: a
# forgotten file is not vacuumed as a deleted one.
_PROPERTIES: Final = {
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    # The log holds the smallest and largest value of these columns and outlives the rows, so no
    # column with ids is among them.
    "delta.dataSkippingStatsColumns": "timestamp,timestamp_utc",
    # Erased rows must be gone from the files, not marked in another file.
    "delta.enableDeletionVectors": "false",
}


def make(uri: str, table: str, options: dict[str, str]) -> DeltaTable:
    """The table at its newest version; made when it does not exist."""
    comments = column_comments(table)
    schema = pa.schema(
        [
            field.with_metadata({"comment": comments[field.name]})
            if field.name in comments
            else field
            for field in stored_schema(table)
        ]
    )
    return DeltaTable.create(
        uri,
        schema,
        mode="ignore",
        partition_by=[RECEIVED_DATE] if RECEIVED_DATE in schema.names else None,
        description=TABLES[table],
        configuration=_PROPERTIES,
        storage_options=options,
    )


def is_of_this_version(opened: DeltaTable, table: str) -> bool:
    """Whether the table has the columns that this version gives it, and no others."""
    held = {field.name: field.type for field in opened.schema().fields}
    return held == _columns(table)


@cache
def _columns(table: str) -> dict[str, Any]:
    """The type of each column that Delta stores, by name."""
    schema = DeltaSchema.from_arrow(stored_schema(table))
    return {field.name: field.type for field in schema.fields}
