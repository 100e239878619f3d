"""Tables of the lake and their columns.

A column may be added at any time if it can be null: an older table gains it at the next write, and
reads as nulls before that. Another type or another meaning needs another column. What a column
holds is said in `table_making`, which adds timestamps for the engines of others.
"""

from typing import Final

import pyarrow as pa

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
            ("teams", pa.list_(pa.string())),
            ("placement_revision", pa.int64()),
            ("circumstances", pa.string()),
            ("substituted", pa.string()),
            ("shadow_of", pa.string()),
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
