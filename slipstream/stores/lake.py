"""The lake: Delta tables that hold history. The only user of Delta's client.

An append and the offsets that it covers are one commit (Delta application transactions, one a source), so rows are in the lake
exactly once if the caller drops what `applied_offset` already covers. Every commit is a version that can be read later, for as
long as `vacuum` keeps it. Tables are partitioned by the day of arrival: see docs/adr/0005-delta-lake.md.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from slipstream.broker.consumer import Source
from slipstream.chassis.settings import LakeSettings

INTERACTIONS: Final = "interactions"
CATALOG: Final = "catalog"
RECOMMENDATIONS: Final = "recommendations"

_PLACE: Final = [("topic_id", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())]
_DATE: Final = [("received_date", pa.string())]
_SLATE_ITEM: Final = pa.struct([("item_id", pa.string()), ("score", pa.float64()), ("source", pa.string())])

#: Every table's columns. Times are ms since the epoch; `received_date` is "YYYY-MM-DD" (UTC); `attributes`, `properties` and
#: `features` are JSON objects as text.
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
            *_PLACE,
            *_DATE,
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
            *_PLACE,
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
            *_PLACE,
            *_DATE,
        ]
    ),
}

#: A file below this is merged with its like.
_TARGET_BYTES: Final = 128 * 1024 * 1024
_CHECKPOINT_EVERY: Final = 50


class LakeUnavailableError(Exception):
    """The lake can't be read or written now: storage is full, away, or refuses us. Nothing was written; try again."""


class LakeConflictError(Exception):
    """Another writer has committed the same sources meanwhile: ask `applied_offset` again and drop what it covers."""


class Lake:
    """The tables under `<uri>/<namespace>/`. Opens nothing before it is asked. Threads may share it."""

    def __init__(self, settings: LakeSettings, namespace: str) -> None:
        local = "://" not in settings.uri
        self._root = f"{Path(settings.uri).absolute() if local else settings.uri.rstrip('/')}/{namespace}"
        self._local = local
        self._options = dict(settings.storage_options)
        self._tables: dict[str, DeltaTable] = {}
        self._lock = threading.Lock()

    def append(self, table: str, rows: pa.Table, offsets: Mapping[Source, int]) -> int:
        """Add rows and record the last offset that they cover of each source, in one commit; the new version.

        The table is made when it does not exist. Rows must have the table's columns; the cast to its types is checked.
        Raises `LakeConflictError` when another writer recorded one of the sources since `applied_offset` was asked here, and
        `LakeUnavailableError` when storage fails.
        """
        schema = SCHEMAS[table]
        transactions = [Transaction(_app_id(source), offset) for source, offset in offsets.items()]
        with self._lock:
            opened = self._writable(table)
            try:
                write_deltalake(
                    opened,
                    rows.select(schema.names).cast(schema),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=transactions),
                )
            except CommitFailedError as error:
                self._tables.pop(table, None)
                if "oncurrent" in str(error):
                    raise LakeConflictError(f"{table}: {error}") from error
                raise LakeUnavailableError(f"{table}: {error}") from error
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
            return int(opened.version())

    def applied_offset(self, table: str, source: Source) -> int:
        """The last offset of the source whose row is in the table; -1 when none is. Later appends are checked against this."""
        return self.applied_offsets(table, [source])[source]

    def applied_offsets(self, table: str, sources: Sequence[Source]) -> dict[Source, int]:
        """`applied_offset` of several sources, all as of the table's newest version."""
        with self._lock:
            opened = self._writable(table)
            try:
                opened.update_incremental()
                found = {source: opened.transaction_version(_app_id(source)) for source in sources}
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
        return {source: -1 if offset is None else offset for source, offset in found.items()}

    def version(self, table: str) -> int | None:
        """The table's newest version; None when there is no table yet."""
        opened = self._open(table)
        return None if opened is None else int(opened.version())

    def read(self, table: str, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The table's rows, in no promised order, as of a version (the newest when None); no rows when there is no table yet.

        Raises `LakeUnavailableError` for a version that is not there or no longer kept.
        """
        opened = self._open(table, version)
        names = list(columns) if columns is not None else SCHEMAS[table].names
        wanted = pa.schema([SCHEMAS[table].field(name) for name in names])
        if opened is None:
            return wanted.empty_table()
        try:
            return opened.to_pyarrow_table(columns=names).cast(wanted)
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table} at version {opened.version()}: {error}") from error

    def count(self, table: str, version: int | None = None) -> int:
        """How many rows the table has, from its files' statistics."""
        opened = self._open(table, version)
        if opened is None:
            return 0
        return int(opened.count())

    def compact(self, table: str, min_small_files: int = 16) -> int:
        """Merge the small files of each partition that has so many of them; how many files that took away.

        Safe beside writers; 0 also when another process was at it first. Raises `LakeUnavailableError`.
        """
        opened = self._open(table)
        if opened is None:
            return 0
        before = len(opened.file_uris())
        try:
            for partition in _crowded(opened, min_small_files):
                opened.optimize.compact(partition_filters=partition, target_size=_TARGET_BYTES)
        except CommitFailedError:
            return 0
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table}: {error}") from error
        return before - len(opened.file_uris())

    def vacuum(self, table: str, retention_h: int) -> int:
        """Delete files that only versions older than `retention_h` need, and say how many; those versions can't be read then."""
        opened = self._open(table)
        if opened is None:
            return 0
        try:
            if not opened.vacuum(retention_hours=retention_h, dry_run=True, enforce_retention_duration=False):
                return 0  # a real vacuum commits versions of its own
            return len(opened.vacuum(retention_hours=retention_h, dry_run=False, enforce_retention_duration=False))
        except CommitFailedError:
            return 0
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table}: {error}") from error

    def _open(self, table: str, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self._uri(table), version=version, storage_options=self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            at = "" if version is None else f" at version {version}"
            raise LakeUnavailableError(f"{table}{at}: {error}") from error

    def _writable(self, table: str) -> DeltaTable:
        """The table that appends go to, made when it does not exist."""
        opened = self._tables.get(table)
        if opened is None:
            try:
                if self._local:
                    os.makedirs(self._uri(table), exist_ok=True)  # noqa: PTH103
                schema = SCHEMAS[table]
                opened = DeltaTable.create(
                    self._uri(table),
                    schema,
                    mode="ignore",
                    partition_by=[name for name, _ in _DATE if name in schema.names],
                    configuration={
                        "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
                        "delta.logRetentionDuration": "interval 30 days",
                    },
                    storage_options=self._options,
                )
            except (DeltaError, OSError) as error:
                raise LakeUnavailableError(f"{table}: {error}") from error
            self._tables[table] = opened
        return opened

    def _uri(self, table: str) -> str:
        return f"{self._root}/{table}"


def _app_id(source: Source) -> str:
    return f"{source.topic_id}:{source.partition}"


def _crowded(table: DeltaTable, at_least: int) -> list[list[tuple[str, str, Any]] | None]:
    """The partitions (as filters; None is all of an unpartitioned table) with so many small files."""
    actions = pa.table(table.get_add_actions(flatten=True))
    partitioned = "partition.received_date" in actions.schema.names
    dates = actions["partition.received_date"].to_pylist() if partitioned else [None] * actions.num_rows
    small: dict[Any, int] = {}
    for date, size in zip(dates, actions["size_bytes"].to_pylist(), strict=True):
        if size < _TARGET_BYTES // 8:
            small[date] = small.get(date, 0) + 1
    return [[("received_date", "=", date)] if partitioned else None for date, n in small.items() if n >= at_least]
