"""Times of the lake's rows as Delta's timestamps, for the engines of others.

Beside a column of milliseconds stands one of the same name and `_utc`. It is made when rows are
appended, and nothing here reads it. It is null in rows that were appended before there were such
columns, or by an older version of this program beside this one (docs/adr/0062).
"""

from typing import Final

import pyarrow as pa

from slipstream.stores.tables import CATALOG, ERASURES, INTERACTIONS, RECOMMENDATIONS, SCHEMAS

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
