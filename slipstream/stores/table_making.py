"""Making of the lake's tables, and their evolution: columns, comments and properties."""

from typing import Final

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError

from slipstream.stores.delta import RECEIVED_DATE, pause
from slipstream.stores.lake_times import stored_schema
from slipstream.stores.table_comments import TABLES, column_comments

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
# Earlier values of these, which are replaced.
_OLDER_PROPERTIES: Final = {("delta.dataSkippingStatsColumns", "timestamp")}
_ATTEMPTS: Final = 60


def make(uri: str, table: str, options: dict[str, str]) -> DeltaTable:
    """The table at its newest version, with all columns and comments known here; made when it does
    not exist.
    """
    comments = column_comments(table)
    schema = pa.schema(
        [
            field.with_metadata({"comment": comments[field.name]})
            if field.name in comments
            else field
            for field in stored_schema(table)
        ]
    )
    opened = DeltaTable.create(
        uri,
        schema,
        mode="ignore",
        partition_by=[RECEIVED_DATE] if RECEIVED_DATE in schema.names else None,
        description=TABLES[table],
        configuration=_PROPERTIES,
        storage_options=options,
    )
    for attempt in range(_ATTEMPTS):
        try:
            return _evolved(opened, schema, TABLES[table])
        except CommitFailedError:  # another process does the same, or writes
            if attempt == _ATTEMPTS - 1:
                raise
            pause(attempt)
            opened = DeltaTable(uri, storage_options=options)
    raise AssertionError("unreachable")


def _evolved(opened: DeltaTable, schema: pa.Schema, description: str) -> DeltaTable:
    """The table with these columns, with comments and properties where it has none.

    A comment that is there stays: versions of this program beside each other would take turns.
    """
    present = {field.name: field for field in opened.schema().fields}
    missing = [field for field in schema if field.name not in present]
    if missing:
        opened.alter.add_columns(DeltaSchema.from_arrow(pa.schema(missing)).fields)
    for field in schema:
        if field.name in present and field.metadata and not present[field.name].metadata:
            comment = field.metadata[b"comment"].decode()
            opened.alter.set_column_metadata(field.name, {"comment": comment})
    held = opened.metadata()
    if not held.description:
        opened.alter.set_table_description(description)
    lacking = {
        name: value
        for name, value in _PROPERTIES.items()
        if name not in held.configuration or (name, held.configuration[name]) in _OLDER_PROPERTIES
    }
    if lacking:
        opened.alter.set_table_properties(lacking)
    return opened
