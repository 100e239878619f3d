"""Reads of the lake: rows, versions, offsets and files of its Delta tables."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Position, source_name
from slipstream.stores import delta
from slipstream.stores.tables import RECOMMENDATIONS, SCHEMAS, is_of_this_version

# Longest time from a slate's id to its record.
_RECORDED_MS: Final = 60_000


class LakeUnavailableError(DependencyUnavailableError):
    """The lake can't be read or written now: its storage is full, away, or refuses access.

    Nothing was written; the call can be repeated.
    """

    dependency = "lake"


class OtherColumnsError(LakeUnavailableError):
    """A table has other columns than those of this version, which neither reads nor writes it."""


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Within the block, failures of Delta and of storage are `LakeUnavailableError`."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise LakeUnavailableError(f"{subject}: {error}") from error


def refuse_other_columns(opened: DeltaTable, table: str) -> None:
    """Raise `OtherColumnsError` for a table that another version made."""
    if not is_of_this_version(opened, table):
        raise OtherColumnsError(
            f"the lake's table {table} was made by another version of Slipstream: begin with an "
            "empty folder (SLIPSTREAM_LAKE__URI), or with another SLIPSTREAM_NAMESPACE"
        )


class LakeReader:
    """The tables under `<uri>/<namespace>/`, to read. Threads may share it.

    Nothing is opened before the first call. Methods raise `LakeUnavailableError`, also for a
    version that does not exist or is no longer kept, and for a table of another version of this
    program.
    """

    def __init__(self, settings: LakeSettings, namespace: str) -> None:
        local = "://" not in settings.uri
        root = Path(settings.uri).absolute() if local else settings.uri.rstrip("/")
        self._root = f"{root}/{namespace}"
        self._local = local
        self._options = dict(settings.storage_options)

    def version(self, table: str) -> int | None:
        """The table's newest version; None when there is no table yet."""
        opened = self._open(table)
        return None if opened is None else int(opened.version())

    def count(self, table: str, version: int | None = None) -> int:
        """The number of rows, from the files' statistics."""
        opened = self._open(table, version)
        return 0 if opened is None else int(opened.count())

    def rows_of_days(self, table: str, version: int) -> dict[str, int]:
        """The number of rows of each `received_date`, from the files' statistics."""
        opened = self._open(table, version)
        days: dict[str, int] = {}
        if opened is not None:
            with translated(f"{table} at version {version}"):
                actions = pa.table(opened.get_add_actions(flatten=True))
            columns = (actions[f"partition.{delta.RECEIVED_DATE}"], actions["num_records"])
            for day, rows in zip(*(column.to_pylist() for column in columns), strict=True):
                days[day] = days.get(day, 0) + int(rows)
        return days

    def covered(self, table: str, version: int) -> Callable[[str], int]:
        """A function from a source's name to its last offset in the table at this version.

        It returns -1 for a source without rows.
        """
        opened = self._open(table, version)

        def last_offset(source: str) -> int:
            offset = None if opened is None else opened.transaction_version(source)
            return -1 if offset is None else int(offset)

        return last_offset

    def read(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        received_since: str | None = None,
    ) -> pa.Table:
        """The table's rows, in no promised order; no rows when there is no table yet. None is the
        newest version, and all columns. Partitions of days before `received_since` ("YYYY-MM-DD")
        are not read.
        """
        batches = list(self.scan(table, version, columns, received_since=received_since))
        return pa.Table.from_batches(batches, schema=_schema(table, columns))

    def scan(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        received_since: str | None = None,
        only: str | None = None,
        times: tuple[int, int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of `read` in batches, of which few are held at once.

        `only` names a column of truth values; rows where it is not true are left out. `times` are
        the least and greatest `timestamp` (ms); files without such rows are hardly read.
        """
        opened = self._open(table, version)
        if opened is None:
            return
        with translated(f"{table} at version {opened.version()}"):
            yield from delta.batches(
                opened, _schema(table, columns), received_since, only=only, times=times
            )

    def newest(self, table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in batches, files of the latest days first; files are read on demand.

        The order within a file, and of files of one day, follows from how they were written.
        """
        opened = self._open(table)
        if opened is not None:
            with translated(table):
                yield from delta.newest(opened, _schema(table, columns))

    def scan_since(
        self, table: str, version: int, before: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the files of `version` that version `before` did not have.

        These are all rows appended since, and perhaps older ones that were rewritten with them.
        """
        opened, earlier = self._open(table, version), self._open(table, before)
        if opened is None:
            return
        with translated(f"{table} at version {version}"):
            yield from delta.batches(opened, _schema(table, columns), without=earlier)

    def positions(
        self,
        table: str,
        event_ids: Collection[str],
        since_ms: int | None = None,
        times: tuple[int, int] | None = None,
    ) -> dict[str, list[Position]]:
        """The positions of rows by event id, for those of these ids that have rows. Rows received
        before the day of `since_ms` are not read. `times` are the least and greatest `timestamp`
        (ms).
        """
        wanted = pa.array(event_ids, pa.string())
        columns = ("event_id", "topic_id", "partition", "offset")
        since = None if since_ms is None else day_of(since_ms)
        positions: dict[str, list[Position]] = {}
        for batch in self.scan(table, columns=columns, received_since=since, times=times):
            hits = batch.filter(pc.is_in(batch["event_id"], wanted))
            for event_id, topic_id, partition, offset in zip(
                *(hits[name].to_pylist() for name in columns), strict=True
            ):
                position = Position(source_name(topic_id, partition), offset)
                positions.setdefault(event_id, []).append(position)
        return positions

    def marked(self, table: str, since_ms: int) -> dict[str, tuple[Position, int]]:
        """The position and receipt (ms) by event id, of rows marked as possible repeats.

        Reads the rows received since the day of `since_ms`.
        """
        columns = ("event_id", "topic_id", "partition", "offset", "received_at")
        marked: dict[str, tuple[Position, int]] = {}
        for batch in self.scan(
            table, columns=columns, received_since=day_of(since_ms), only="maybe_repeat"
        ):
            for event_id, topic_id, partition, offset, received_at in zip(
                *(batch[name].to_pylist() for name in columns), strict=True
            ):
                position = Position(source_name(topic_id, partition), offset)
                marked[event_id] = position, received_at
        return marked

    def slate(self, recommendation_id: str, given_at: int) -> dict[str, Any] | None:
        """The row of a slate by its columns; None where there is none.

        Reads the slates of the minute after its id was given (ms).
        """
        opened, schema = self._open(RECOMMENDATIONS), SCHEMAS[RECOMMENDATIONS]
        if opened is None:
            return None
        times = given_at, given_at + _RECORDED_MS
        since, until = map(day_of, times)
        with translated(RECOMMENDATIONS):
            for batch in delta.batches(opened, schema, since, received_until=until, times=times):
                for row in batch.filter(
                    pc.equal(batch["recommendation_id"], recommendation_id)
                ).to_pylist():
                    return dict(row)
        return None

    def files(self, table: str, version: int) -> list[str]:
        """The URIs of a version's Parquet files, for other engines.

        `received_date` is in their paths, not in them.
        """
        opened = self._open(table, version)
        return [] if opened is None else list(opened.file_uris())

    def missing_files(self, table: str, version: int) -> int:
        """The number of a version's files that are gone, so that it can't be read whole."""
        opened = self._open(table, version)
        if opened is None:
            return 0
        with translated(f"{table} at version {version}"):
            dataset = opened.to_pyarrow_dataset()
            found = dataset.filesystem.get_file_info(dataset.files)
        return sum(file.type == pa_fs.FileType.NotFound for file in found)

    def _open(self, table: str, version: int | None = None) -> DeltaTable | None:
        with translated(table if version is None else f"{table} at version {version}"):
            try:
                opened = DeltaTable(
                    self._uri(table), version=version, storage_options=self._options
                )
            except TableNotFoundError:
                return None
            refuse_other_columns(opened, table)
            return opened

    def _uri(self, table: str) -> str:
        return f"{self._root}/{table}"


def day_of(millis: int) -> str:
    """The day of a time (ms) in UTC, as partitions are named: "YYYY-MM-DD"."""
    return datetime.fromtimestamp(max(0, millis) / 1000, UTC).strftime("%Y-%m-%d")


def _schema(table: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = SCHEMAS[table]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])
