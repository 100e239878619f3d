"""The lake: Delta tables that hold history. The only user of Delta's client.

An append and the offsets that it covers are one commit (Delta application transactions, one a
source), so rows are in the lake exactly once if the caller drops what `applied_offsets` already
covers. Every commit is a version that can be read later, for as long as `vacuum` keeps it. Tables
are partitioned by the day of arrival: see docs/adr/0005-delta-lake.md. What they hold is in
`tables`, what is done to one of them in `delta`.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Position, Source, source_name
from slipstream.stores import delta
from slipstream.stores.tables import CATALOG as CATALOG
from slipstream.stores.tables import INTERACTIONS as INTERACTIONS
from slipstream.stores.tables import RECOMMENDATIONS as RECOMMENDATIONS
from slipstream.stores.tables import SCHEMAS as SCHEMAS

# A file below this is merged with its like.
_TARGET_BYTES: Final = 128 * 1024 * 1024
# The log is kept for so long, whatever the files are.
_LOG_DAYS: Final = 30
# Later than every row.
_ALWAYS: Final = 2**62
# Which rows are a visitor's: the columns with ids, when the row was there, and what else must hold.
_OF_A_VISITOR: Final = {
    INTERACTIONS: (("user_id", "anonymous_id"), "received_at", ""),
    RECOMMENDATIONS: (("user_id",), "timestamp", ""),
    CATALOG: (("entity_id",), "timestamp", " AND entity = 'user' AND NOT deleted"),
}


class LakeUnavailableError(DependencyUnavailableError):
    """The lake can't be read or written now: storage is full, away, or refuses us. Nothing was
    written; try again.
    """

    dependency = "lake"


class LakeConflictError(Exception):
    """Another writer has committed the same sources meanwhile: ask `applied_offsets` again and drop
    what it covers.
    """


class Lake:
    """The tables under `<uri>/<namespace>/`. Opens nothing before it is asked. Threads may share
    it.
    """

    def __init__(self, settings: LakeSettings, namespace: str) -> None:
        local = "://" not in settings.uri
        self._root = (
            f"{Path(settings.uri).absolute() if local else settings.uri.rstrip('/')}/{namespace}"
        )
        self._local = local
        self._options = dict(settings.storage_options)
        self._tables: dict[str, DeltaTable] = {}
        self._lock = threading.Lock()

    def append(self, table: str, rows: pa.Table, offsets: Mapping[Source, int]) -> int:
        """Add rows and record the last offset that they cover of each source, in one commit; the
        new version.

        The table is made when it does not exist, and gains the columns that a newer version of this
        program added. Rows must have the columns of `SCHEMAS`; the cast to its types is checked.
        Columns of the table that are not known here are null. Raises `LakeConflictError` when
        another writer recorded one of the sources since `applied_offsets` was asked here, and
        `LakeUnavailableError` when storage fails.
        """
        schema = SCHEMAS[table]
        transactions = [Transaction(source.name, offset) for source, offset in offsets.items()]
        with self._lock:
            opened = self._writable(table)
            try:
                delta.append(opened, rows.select(schema.names).cast(schema), transactions)
            except CommitFailedError as error:
                self._tables.pop(table, None)
                if "oncurrent" in str(error) or "Metadata changed" in str(error):
                    raise LakeConflictError(f"{table}: {error}") from error
                raise LakeUnavailableError(f"{table}: {error}") from error
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
            return int(opened.version())

    def applied_offsets(self, table: str, sources: Sequence[Source]) -> dict[Source, int]:
        """Of each source the last offset whose row is in the table's newest version; -1 where none
        is. Later appends are checked against this.
        """
        with self._lock:
            opened = self._writable(table)
            try:
                opened.update_incremental()
                found = {source: opened.transaction_version(source.name) for source in sources}
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
        return {source: -1 if offset is None else offset for source, offset in found.items()}

    def covered(self, table: str, version: int) -> Callable[[str], int]:
        """Asks, of "<topic id>:<partition>", for the last offset whose row is in the table at this
        version; -1 when none is.
        """
        opened = self._open(table, version)

        def offset(source: str) -> int:
            found = None if opened is None else opened.transaction_version(source)
            return -1 if found is None else int(found)

        return offset

    def version(self, table: str) -> int | None:
        """The table's newest version; None when there is no table yet."""
        opened = self._open(table)
        return None if opened is None else int(opened.version())

    def read(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        received_since: str | None = None,
    ) -> pa.Table:
        """The table's rows, in no promised order, as of a version (the newest when None); no rows
        when there is no table yet.

        A column that the version does not have is null. `received_since` ("YYYY-MM-DD") leaves out
        the partitions of the days before, unread. Raises `LakeUnavailableError` for a version that
        is not there or no longer kept.
        """
        found = list(self.scan(table, version, columns, received_since=received_since))
        return pa.Table.from_batches(found, schema=_wanted(table, columns))

    def scan(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        received_since: str | None = None,
        only: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """`read` in batches, of which few are held at once. `only`: the rows in which this column
        is true.
        """
        opened = self._open(table, version)
        if opened is None:
            return
        try:
            yield from delta.batches(opened, _wanted(table, columns), received_since, only=only)
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table} at version {opened.version()}: {error}") from error

    def scan_since(
        self, table: str, version: int, before: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the files of `version` that version `before` did not have: all that were
        appended since, and perhaps some older ones that were merged or rewritten with them.
        """
        opened, earlier = self._open(table, version), self._open(table, before)
        if opened is None:
            return
        try:
            yield from delta.batches(opened, _wanted(table, columns), without=earlier)
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table} at version {version}: {error}") from error

    def positions(
        self, table: str, event_ids: Collection[str], since_ms: int
    ) -> dict[str, list[Position]]:
        """Where rows with these event ids stand in the stream, of the rows received since the day
        of `since_ms`; ids that no row has are left out. Reads the event ids of those days. Raises
        `LakeUnavailableError`.
        """
        wanted = pa.array(event_ids, pa.string())
        columns = ("event_id", "topic_id", "partition", "offset")
        found: dict[str, list[Position]] = {}
        for batch in self.scan(table, columns=columns, received_since=_date(since_ms)):
            hits = batch.filter(pc.is_in(batch["event_id"], wanted))
            for event_id, topic_id, partition, offset in zip(
                *(hits[name].to_pylist() for name in columns), strict=True
            ):
                position = Position(source_name(topic_id, partition), offset)
                found.setdefault(event_id, []).append(position)
        return found

    def marked(self, table: str, since_ms: int) -> dict[str, tuple[Position, int]]:
        """By event id: where the rows stand in the stream that may be repeats by their mark, and
        when they were received (ms), of the rows received since the day of `since_ms`. Raises
        `LakeUnavailableError`.
        """
        columns = ("event_id", "topic_id", "partition", "offset", "received_at")
        found: dict[str, tuple[Position, int]] = {}
        for batch in self.scan(
            table, columns=columns, received_since=_date(since_ms), only="maybe_repeat"
        ):
            for event_id, topic_id, partition, offset, received_at in zip(
                *(batch[name].to_pylist() for name in columns), strict=True
            ):
                position = Position(source_name(topic_id, partition), offset)
                found[event_id] = position, received_at
        return found

    def files(self, table: str, version: int) -> list[str]:
        """Where the Parquet files of a version are, for other engines. `received_date` is in their
        paths, not in them.
        """
        opened = self._open(table, version)
        return [] if opened is None else list(opened.file_uris())

    def count(self, table: str, version: int | None = None) -> int:
        """How many rows the table has, from its files' statistics."""
        opened = self._open(table, version)
        if opened is None:
            return 0
        return int(opened.count())

    def erase(self, user_ids: Sequence[str], before: int | None = None) -> int:
        """Delete what is kept of these visitors: their interactions (also those that name them as
        `anonymous_id`), the slates that they were shown, and their records as users; how many rows
        that were.

        With `before`, only rows received up to then (ms): a request that is read again must not
        take what came after it. What stays are ids without anything about them: the request itself
        (the user's deletion), and the identity links, since they say whose the next event is. Safe
        beside writers, and again. The newest version is without the rows at once; older ones, and
        so the files, are for as long as `vacuum` keeps them. Raises `LakeUnavailableError`; some
        rows may be gone then.
        """
        deleted = 0
        for table, (columns, time_column, also) in _OF_A_VISITOR.items():
            if user_ids and self._open(table) is not None:
                open_newest = partial(DeltaTable, self._uri(table), storage_options=self._options)
                until = _ALWAYS if before is None else before
                try:
                    deleted += delta.erase(
                        open_newest, columns, list(user_ids), time_column, until, also
                    )
                except (DeltaError, OSError) as error:
                    raise LakeUnavailableError(f"{table}: {error}") from error
        return deleted

    def compact(self, table: str, min_small_files: int = 16) -> int:
        """Merge the small files of each partition that has so many of them; how many files that
        took away.

        Safe beside writers; 0 also when another process was at it first. Raises
        `LakeUnavailableError`.
        """
        opened = self._open(table)
        if opened is None:
            return 0
        before = len(opened.file_uris())
        try:
            for partition in delta.crowded(opened, min_small_files, _TARGET_BYTES // 8):
                opened.optimize.compact(partition_filters=partition, target_size=_TARGET_BYTES)
        except CommitFailedError:
            return 0
        except (DeltaError, OSError) as error:
            raise LakeUnavailableError(f"{table}: {error}") from error
        return before - len(opened.file_uris())

    def vacuum(self, table: str, retention_h: int, erasure_h: float | None = None) -> int:
        """Delete files that only versions older than `retention_h` need, and files that were never
        committed, and say how many. Those versions can't be read then.

        With `erasure_h`, versions from before an erasure that is so long ago go, too, however young
        they are: they hold the rows that were erased. 0 as a retention is for tests, where nobody
        writes meanwhile.
        """
        opened = self._open(table)
        if opened is None:
            return 0
        if erasure_h is not None:
            erased = delta.erased_h(
                opened, erasure_h, within_days=min(_LOG_DAYS, timedelta(hours=retention_h).days + 1)
            )
            retention_h = retention_h if erased is None else min(retention_h, erased)
        try:
            # "Full": files that no commit names, since the log forgets what it no longer needs
            # before it is this old.
            doomed = opened.vacuum(
                retention_hours=retention_h,
                dry_run=True,
                enforce_retention_duration=False,
                full=True,
            )
            if not doomed:
                return 0  # a real vacuum commits versions of its own
            return len(
                opened.vacuum(
                    retention_hours=retention_h,
                    dry_run=False,
                    enforce_retention_duration=False,
                    full=True,
                )
            )
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
                opened = delta.make(self._uri(table), table, self._options)
            except (DeltaError, OSError) as error:
                raise LakeUnavailableError(f"{table}: {error}") from error
            self._tables[table] = opened
        return opened

    def _uri(self, table: str) -> str:
        return f"{self._root}/{table}"


def _date(millis: int) -> str:
    return datetime.fromtimestamp(max(0, millis) / 1000, UTC).strftime("%Y-%m-%d")


def _wanted(table: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = SCHEMAS[table]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])
