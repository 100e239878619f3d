"""Operations on one open Delta table: make, append, read in batches, vacuum."""

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from pyarrow.fs import FileInfo, FileType

from slipstream.contracts.times import DAY_MS, HOUR_MS, now_ms

RECEIVED_DATE: Final = "received_date"
# Times and offsets grow from row to row, so they are kept as differences, which take fewer bytes.
GROWING: Final = {
    column: ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    for column in ("timestamp", "timestamp_utc", "received_at", "received_at_utc", "offset")
}
# The compression is Delta's default, which other properties would switch off.
_WRITER: Final = WriterProperties(compression="SNAPPY", column_properties=GROWING)
ERASURE: Final = "erasure"
_BATCH_ROWS: Final = 32_768
# Longest that a writer takes from a file to the commit that names it, in seconds.
_WRITING_S: Final = 60.0


def append(opened: DeltaTable, rows: pa.Table, transactions: list[Transaction]) -> None:
    """Append rows, which have all columns of the table."""
    write_deltalake(
        opened,
        rows,
        mode="append",
        writer_properties=_WRITER,
        commit_properties=CommitProperties(app_transactions=transactions),
    )


def batches(
    opened: DeltaTable,
    wanted: pa.Schema,
    received_since: str | None = None,
    without: DeltaTable | None = None,
    only: str | None = None,
    received_until: str | None = None,
    times: tuple[int, int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The table's rows, in no promised order. Holds a few batches at once.

    Args:
        received_since: a day ("YYYY-MM-DD"); the partitions of the days before are not read.
        without: another version of the table; its files are left out.
        only: a column of truth values. Rows where it is not true are left out, and files without
            such rows are hardly read.
        received_until: a day; the partitions of the days after are not read.
        times: least and greatest `timestamp` (ms); files without such rows are hardly read.
    """
    days = [
        (RECEIVED_DATE, order, day)
        for order, day in ((">=", received_since), ("<=", received_until))
        if day
    ]
    dataset = opened.to_pyarrow_dataset(file_pruning_predicate=days or None)
    if without is not None:
        theirs = {fragment.path for fragment in without.to_pyarrow_dataset().get_fragments()}
        fragments = [
            fragment for fragment in dataset.get_fragments() if fragment.path not in theirs
        ]
        dataset = ds.FileSystemDataset(
            fragments, dataset.schema, dataset.format, dataset.filesystem
        )
    # No filter on texts here: a file that a delete has rewritten calls them string views, and its
    # statistics can't be compared.
    chosen = None if only is None else ds.field(only)
    if times is not None:
        in_time = (ds.field("timestamp") >= times[0]) & (ds.field("timestamp") <= times[1])
        chosen = in_time if chosen is None else chosen & in_time
    scanner = dataset.scanner(
        columns=wanted.names,
        filter=chosen,
        batch_size=_BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=2,
    )
    for batch in scanner.to_batches():
        yield _in_form(batch, wanted)


def newest(opened: DeltaTable, wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The table's rows, files of the latest days first, and of a day those written last.

    A file is opened when its first row is needed.
    """
    actions = pa.table(opened.get_add_actions(flatten=True))
    days = (
        actions[f"partition.{RECEIVED_DATE}"].to_pylist()
        if f"partition.{RECEIVED_DATE}" in actions.schema.names
        else [""] * actions.num_rows
    )
    written = zip(
        days, actions["modification_time"].to_pylist(), actions["path"].to_pylist(), strict=True
    )
    dataset = opened.to_pyarrow_dataset()
    fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
    for _, _, path in sorted(written, key=lambda file: (file[0], file[1]), reverse=True):
        if path not in fragments:
            continue
        batches_of_file = fragments[path].to_batches(
            schema=dataset.schema, columns=wanted.names, batch_size=_BATCH_ROWS, batch_readahead=1
        )
        for batch in batches_of_file:
            yield _in_form(batch, wanted)


def _in_form(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """The batch's columns of these types."""
    columns = [batch[field.name].cast(field.type) for field in wanted]
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def crowded(
    opened: DeltaTable, at_least: int, small_bytes: int
) -> list[list[tuple[str, str, Any]] | None]:
    """The partitions with at least `at_least` files smaller than `small_bytes`.

    They are filters; None stands for an unpartitioned table.
    """
    actions = pa.table(opened.get_add_actions(flatten=True))
    partitioned = f"partition.{RECEIVED_DATE}" in actions.schema.names
    dates = (
        actions[f"partition.{RECEIVED_DATE}"].to_pylist()
        if partitioned
        else [None] * actions.num_rows
    )
    small: dict[Any, int] = {}
    for date, size in zip(dates, actions["size_bytes"].to_pylist(), strict=True):
        if size < small_bytes:
            small[date] = small.get(date, 0) + 1
    return [
        [(RECEIVED_DATE, "=", date)] if partitioned else None
        for date, n in small.items()
        if n >= at_least
    ]


def erased_h(opened: DeltaTable, at_least_h: float, within_days: int) -> int | None:
    """The age in whole hours of the newest erasure that is at least `at_least_h` old, or None.

    `within_days` is how far back the erasures are looked up.
    """
    now = now_ms()
    days = [
        opened.transaction_version(f"{ERASURE}:{now // DAY_MS - back}")
        for back in range(within_days + 1)
    ]
    ages = [(now - at) / HOUR_MS for at in days if at is not None]
    return min((int(age) for age in ages if age >= at_least_h), default=None)


def empty(opened: DeltaTable, column: str, before_day: str) -> int:
    """Make a column null in the partitions of the days before; returns how many had values.

    Each partition is rewritten once.
    """
    earlier = [(RECEIVED_DATE, "<", before_day)]
    dataset = opened.to_pyarrow_dataset(file_pruning_predicate=earlier)
    days = {
        str(day)
        for batch in dataset.to_batches(
            columns=[RECEIVED_DATE],
            filter=ds.field(column).is_valid() & (ds.field(RECEIVED_DATE) < before_day),
        )
        for day in pc.unique(batch[RECEIVED_DATE]).to_pylist()
    }
    for day in sorted(days):
        opened.update(
            updates={column: "CAST(NULL AS STRING)"},
            predicate=f"{RECEIVED_DATE} = '{day}' AND {column} IS NOT NULL",
        )
    return len(days)


def vacuum(opened: DeltaTable, retention_h: int) -> int:
    """Delete the files that only versions older than `retention_h` need; returns their number.

    Files that no commit names go, too, since the log forgets such files before they are this old.
    """
    delete = partial(
        opened.vacuum, retention_hours=retention_h, enforce_retention_duration=False, full=True
    )
    if not delete(dry_run=True):
        return 0  # a real vacuum commits versions of its own, even without files to delete
    return len(delete(dry_run=False))


def vacuum_beside_writers(opened: DeltaTable) -> int:
    """Delete the files that the newest version does not need; returns their number.

    Those of a writer that has not committed yet are young, and stay.
    """
    filesystem = opened.to_pyarrow_dataset().filesystem
    before = time.time() - _WRITING_S
    old = [file for file in _unneeded(opened, 0) if file.mtime.timestamp() < before]
    for file in old:
        filesystem.delete_file(file.path)
    return len(old)


def unneeded(opened: DeltaTable, retention_h: int) -> int:
    """The number of files on the disk that `vacuum` would delete."""
    return len(_unneeded(opened, retention_h))


def _unneeded(opened: DeltaTable, retention_h: int) -> list[FileInfo]:
    listed = opened.vacuum(
        retention_hours=retention_h, enforce_retention_duration=False, full=True, dry_run=True
    )
    # Those that went before are listed for as long as the log remembers them.
    found = opened.to_pyarrow_dataset().filesystem.get_file_info(listed) if listed else []
    return [each for each in found if each.type != FileType.NotFound]


def arrow_schema(opened: DeltaTable) -> pa.Schema:
    return pa.schema(opened.schema().to_arrow())


def pause(attempt: int) -> None:
    """Wait for a moment before the next attempt at a commit, longer after more of them."""
    time.sleep(random.uniform(0.01, 0.05) * min(attempt + 1, 10))
