"""Lake: Delta tables that hold history, appended to exactly once, erased from and kept small.

An append and the offsets that it covers are one commit (Delta application transactions, one a
source). So rows are in the lake exactly once if the caller drops what `applied_offsets` already
covers. Every commit is a version that can be read later, for as long as `vacuum` keeps it.

Delta lets two compactions at once both stand, so that each row is there twice. A compaction is
therefore claimed by a commit of its own first, and Delta refuses the later of two such commits.

Tables are partitioned by the day of arrival (docs/adr/0005-delta-lake.md). Their columns are in
`tables`, reads in `lake_reader`, operations on one open table in `delta`.

The lease on erasing from the lake, and the hold of its writers, are in Redis. Both end by
themselves, should the process die that took them. Neither is needed for correctness: two erasers at
once do the same work, and a writer that does not see the hold makes a deletion try again.
"""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import LakeSettings, RedisSettings
from slipstream.contracts.positions import Source
from slipstream.stores import connection, delta, row_erasure, tables
from slipstream.stores.connection import StoreUnavailableError, connect
from slipstream.stores.lake_reader import (
    LakeReader,
    OtherColumnsError,
    day_of,
    refuse_other_columns,
    translated,
)
from slipstream.stores.lake_reader import LakeUnavailableError as LakeUnavailableError
from slipstream.stores.layout import Keys
from slipstream.stores.row_erasure import FoundRows, Hold, RowErasure
from slipstream.stores.tables import CATALOG as CATALOG
from slipstream.stores.tables import ERASURES as ERASURES
from slipstream.stores.tables import INTERACTIONS as INTERACTIONS
from slipstream.stores.tables import RECOMMENDATIONS as RECOMMENDATIONS
from slipstream.stores.tables import SCHEMAS as SCHEMAS
from slipstream.stores.tables import with_timestamps

# Name of the claim among the table's transactions, and its value when it is free.
_CLAIM: Final = "compaction"
_FREE: Final = 0
# Seconds after which a claim counts as left behind by a process that died. A compaction takes
# seconds.
LEFT_BEHIND_S: Final = 900.0
_RELEASES: Final = 20
# The writer holds a row group in memory, by default of more rows than a service has room for where
# rows are large. The compression is Delta's default, which other properties would switch off.
ROWS_OF_A_GROUP: Final = 20_000
_WRITER: Final = WriterProperties(
    max_row_group_size=ROWS_OF_A_GROUP,
    compression="ZSTD",
    compression_level=4,
    column_properties=delta.GROWING,
)


class Compaction:
    """Merges the small files of one table. One thread uses it.

    A claim that does not change is timed here, by this process's own clock: those of two machines
    may differ.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen, self._since = _FREE, 0.0

    def run(
        self, open_newest: Callable[[], DeltaTable], min_small_files: int, target_bytes: int
    ) -> int:
        """Merge the small files of each partition with at least `min_small_files` of them.

        Returns the number of files that went; 0 also while another process does it. Raises the
        errors of Delta.
        """
        opened = open_newest()
        if not delta.crowded(opened, min_small_files, target_bytes // 8):
            return 0
        if not self._claim(opened):
            return 0
        try:
            # Opened after the claim: it has the files of all compactions before.
            opened = open_newest()
            before = len(opened.file_uris())
            for partition in delta.crowded(opened, min_small_files, target_bytes // 8):
                opened.optimize.compact(
                    partition_filters=partition,
                    target_size=target_bytes,
                    max_concurrent_tasks=1,
                    writer_properties=_WRITER,
                )
            return before - len(opened.file_uris())
        except CommitFailedError:  # an erasure was faster
            return 0
        finally:
            _release(open_newest)

    def _claim(self, opened: DeltaTable) -> bool:
        held = opened.transaction_version(_CLAIM) or _FREE
        if held != self._seen:
            self._seen, self._since = held, self._clock()
        if held != _FREE and self._clock() < self._since + LEFT_BEHIND_S:
            return False
        try:
            _put(opened, 1 + secrets.randbelow(2**62))
        except CommitFailedError:
            return False
        return True


def _release(open_newest: Callable[[], DeltaTable]) -> None:
    for attempt in range(_RELEASES):
        try:
            _put(open_newest(), _FREE)
        except CommitFailedError:
            delta.pause(attempt)
        else:
            return


def _put(opened: DeltaTable, value: int) -> None:
    """Commit the claim's value with no rows; Delta refuses if it has changed since `opened`."""
    write_deltalake(
        opened,
        pa.Table.from_batches([], schema=delta.arrow_schema(opened)),
        mode="append",
        commit_properties=CommitProperties(app_transactions=[Transaction(_CLAIM, value)]),
    )


# Size of a merged file. A file of less than an eighth is merged with others.
_TARGET_BYTES: Final = 128 * 1024 * 1024
# Days that Delta keeps its log, whatever the files are (`delta.logRetentionDuration`).
_LOG_DAYS: Final = 30
# What delta-rs says when other writers are the reason. The last one: each of its attempts at a
# version met another writer's commit.
_CONFLICTS: Final = ("oncurrent", "Metadata changed", "Failed to commit transaction")


class LakeConflictError(Exception):
    """Another writer has committed the same sources meanwhile, or others were faster each time.

    Nothing was appended. Ask `applied_offsets` again and drop what it covers.
    """


class Lake(LakeReader):
    """The tables under `<uri>/<namespace>/`, to read and to write. Threads may share it."""

    def __init__(self, settings: LakeSettings, namespace: str) -> None:
        super().__init__(settings, namespace)
        self._tables: dict[str, DeltaTable] = {}
        self._lock = threading.Lock()
        self._compactions: dict[str, Compaction] = {}

    def refuse_other_version(self) -> None:
        """Raise `RefusedSettingsError` where a table was made by another version of this program.

        A lake that is unavailable passes.
        """
        with contextlib.suppress(LakeUnavailableError):
            for table in SCHEMAS:
                try:
                    self._open(table)
                except OtherColumnsError as error:
                    raise RefusedSettingsError(str(error)) from error

    def append(self, table: str, rows: pa.Table, offsets: Mapping[Source, int]) -> int:
        """Append rows and record the last offset of each source, in one commit.

        The table is made when it does not exist. The cast to the types of `SCHEMAS` is checked.
        Returns the new version.

        Raises:
            LakeConflictError: another writer recorded one of the sources since `applied_offsets`
                was asked here, or other writers were faster at each attempt.
            LakeUnavailableError: storage fails.
        """
        schema = SCHEMAS[table]
        transactions = [Transaction(source.name, offset) for source, offset in offsets.items()]
        with self._lock:
            opened = self._writable(table)
            try:
                known = rows.select(schema.names).cast(schema)
                delta.append(opened, with_timestamps(table, known), transactions)
            except CommitFailedError as error:
                self._tables.pop(table, None)
                if any(word in str(error) for word in _CONFLICTS):
                    raise LakeConflictError(f"{table}: {error}") from error
                raise LakeUnavailableError(f"{table}: {error}") from error
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
            return int(opened.version())

    def applied_offsets(self, table: str, sources: Sequence[Source]) -> dict[Source, int]:
        """The last offset of each source in the table's newest version; -1 for no rows.

        Later appends are checked against this.
        """
        with self._lock:
            opened = self._writable(table)
            try:
                opened.update_incremental()
                offsets = {source: opened.transaction_version(source.name) for source in sources}
            except (DeltaError, OSError) as error:
                self._tables.pop(table, None)
                raise LakeUnavailableError(f"{table}: {error}") from error
        return {source: -1 if offset is None else offset for source, offset in offsets.items()}

    def erase(
        self,
        table: str,
        erasures: Sequence[RowErasure],
        hold: Hold = lambda: None,
    ) -> int:
        """Delete the rows of visitors: one pass over the table for all erasures.

        These are their interactions (also those that name them as `anonymous_id`), or the slates
        that they were shown. Safe while others write, and to repeat. The newest version loses the
        rows at once; older versions, and so the files, stay for as long as `vacuum` keeps them.
        `hold` asks the writers to wait, if one was faster each time. Returns the number of rows.

        Raises:
            LakeUnavailableError: storage fails; some rows may be deleted.
        """
        opened = self._open(table)
        if opened is None or not erasures:
            return 0
        with translated(table):
            return self.delete(table, row_erasure.find(opened, table, erasures), hold)

    def delete(self, table: str, rows: FoundRows, hold: Hold = lambda: None) -> int:
        """Delete rows by their positions, as `erase` does; returns their number."""
        with translated(table):
            return row_erasure.delete(
                partial(DeltaTable, self._uri(table), storage_options=self._options), rows, hold
            )

    def empty(self, table: str, column: str, before_ms: int) -> int:
        """Make a column null in the rows of days that ended before a time (ms).

        Safe while others write. Older versions keep the values for as long as `vacuum` keeps them.
        Returns the number of days that had any; 0 also where another process was faster.
        """
        opened = self._open(table)
        if opened is None:
            return 0
        with translated(table):
            try:
                return delta.empty(opened, column, day_of(before_ms))
            except CommitFailedError:
                return 0

    def forget_visitors(self, before_ms: int) -> int:
        """Make the digests of visitors null in erasures from before a time (ms); returns how many
        had any. 0 also where another process was faster.
        """
        opened = self._open(ERASURES)
        if opened is None:
            return 0
        with translated(ERASURES):
            try:
                return int(
                    opened.update(
                        updates={"visitors": "CAST(NULL AS STRING)"},
                        predicate=f"asked_at < {before_ms} AND visitors IS NOT NULL",
                    )["num_updated_rows"]
                )
            except CommitFailedError:
                return 0

    def compact(self, table: str, min_small_files: int = 16) -> int:
        """Merge the small files of each partition with at least `min_small_files` of them.

        Safe while others write. Returns the number of files that went; 0 also while another
        process compacts.
        """
        if self._open(table) is None:
            return 0
        with translated(table):
            return self._compactions.setdefault(table, Compaction()).run(
                partial(DeltaTable, self._uri(table), storage_options=self._options),
                min_small_files,
                _TARGET_BYTES,
            )

    def vacuum(self, table: str, retention_h: int, erasure_h: float | None = None) -> int:
        """Delete files of versions that are too old, and files that were never committed.

        Those versions can't be read then.

        Args:
            retention_h: hours that a version is kept. 0 is for tests without a writer.
            erasure_h: with it, versions from before an erasure that is this many hours ago go, too,
                however young they are: they hold the rows that were erased.
        """
        opened, beside_writers = self._open(table), False
        if opened is None:
            return 0
        if erasure_h is not None:
            erased = delta.erased_h(
                opened, erasure_h, within_days=min(_LOG_DAYS, timedelta(hours=retention_h).days + 1)
            )
            retention_h = retention_h if erased is None else min(retention_h, erased)
            beside_writers = retention_h == 0
        with translated(table):
            try:
                if beside_writers:
                    return delta.vacuum_beside_writers(opened)
                return delta.vacuum(opened, retention_h)
            except CommitFailedError:
                return 0

    def unneeded_files(self, table: str, since_h: int) -> int:
        """The number of files that no version of the last `since_h` hours needs.

        It is 0 when everything that was deleted before then is gone from the disk.
        """
        opened = self._open(table)
        with translated(table):
            return 0 if opened is None else delta.unneeded(opened, since_h)

    def _writable(self, table: str) -> DeltaTable:
        """The table that appends go to, made when it does not exist."""
        opened = self._tables.get(table)
        if opened is None:
            with translated(table):
                if self._local:
                    os.makedirs(self._uri(table), exist_ok=True)  # noqa: PTH103
                opened = tables.make(self._uri(table), table, self._options)
                refuse_other_columns(opened, table)
            self._tables[table] = opened
        return opened


_HOLD_MS: Final = 10_000
_LEASE_MS: Final = 60_000


class LakeLease:
    """The lease and the hold, as one process sees them. Threads may share it."""

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._redis, self._keys = connect(settings), Keys(namespace)
        self._name = secrets.token_hex(8)

    def take(self) -> bool:
        """Take the lease for a minute, or renew it; whether it is this process's now.

        Raises `StoreUnavailableError`.
        """
        with connection.translated():
            if self._redis.set(self._keys.erasing, self._name, px=_LEASE_MS, nx=True):
                return True
            if self._redis.get(self._keys.erasing) != self._name.encode():
                return False
            return bool(self._redis.pexpire(self._keys.erasing, _LEASE_MS))

    def hold(self) -> None:
        """Ask all writers of the lake to wait, for 10 s from now. A lost Redis is passed over."""
        with contextlib.suppress(StoreUnavailableError), connection.translated():
            self._redis.set(self._keys.lake_hold, b"", px=_HOLD_MS)

    def release(self) -> None:
        """Let the writers go on. A lost Redis is passed over: the hold ends by itself."""
        with contextlib.suppress(StoreUnavailableError), connection.translated():
            self._redis.delete(self._keys.lake_hold)

    def held(self) -> bool:
        """Whether writers are to wait; False while Redis is unavailable."""
        with contextlib.suppress(StoreUnavailableError), connection.translated():
            return bool(self._redis.exists(self._keys.lake_hold))
        return False

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
