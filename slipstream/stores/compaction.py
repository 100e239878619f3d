"""Compaction of Delta tables, by one process at a time.

Delta lets two compactions at once both stand, so that each row is there twice. A compaction is
therefore claimed by a commit of its own first, and Delta refuses the later of two such commits.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError

from slipstream.stores import delta

# Name of the claim among the table's transactions, and its value when nobody has it.
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
