"""Writing of the stream to the lake, in portions and in a thread of its own.

A slow lake so does not slow the online store down.
"""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from services.features.history.rows import TABLES, Row, as_table
from slipstream.broker.batch import Batch
from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import Position, Source
from slipstream.stores.lake import INTERACTIONS, Lake, LakeConflictError, LakeUnavailableError

log = get_logger(__name__)

# Portions that may wait while the lake can't be written; with more, reading pauses. They are
# counted by rows, and by bytes, since rows may be large.
PORTIONS_HELD: Final = 10
LARGE_PORTIONS_HELD: Final = 4
# Bytes of a row besides its record's: its tuple, its position, its short strings.
ROW_OVERHEAD: Final = 1_000
_RETRY_S: Final = 1.0
_CONFLICTS_TAKEN: Final = 20
# Pause between two questions whether an erasure still holds appends.
_HELD_S: Final = 0.05

NextOffsets = dict[Source, int]


@dataclass(slots=True)
class _Portion:
    rows: dict[str, list[tuple[Source, int, Row]]] = field(default_factory=dict)
    next_offsets: NextOffsets = field(default_factory=dict)
    count: int = 0
    size: int = 0
    since: float = 0.0


class Archive:
    """Rows on their way to the lake. One thread calls it; writing happens in another.

    `failure` says why the lake can't be written now; None when it can.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        flush_s: float,
        flush_rows: int,
        flush_bytes: int,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            lake: The lake to write to.
            flush_s: Longest wait of rows, in seconds.
            flush_rows: Number of waiting rows that are written without further delay.
            flush_bytes: Their bytes, of which the same is true.
            held: Whether an erasure asks that nothing be appended now.
        """
        self._lake, self._held = lake, held
        self._flush_s, self._flush_rows, self._flush_bytes = flush_s, flush_rows, flush_bytes
        self._filling, self._writing = _Portion(), _Portion()
        # Next offset of each source behind the rows that were taken.
        self._taken: NextOffsets = {}
        self._job: Future[None] | None = None
        self._retry_at = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="lake-writer")
        self.failure: str | None = None

    @property
    def empty(self) -> bool:
        """Whether everything that was added is in the lake."""
        return not (self._filling.next_offsets or self._writing.next_offsets)

    @property
    def full(self) -> bool:
        """Whether reading should pause until something has been written."""
        return (
            self._filling.count >= self._flush_rows * PORTIONS_HELD
            or self._filling.size >= self._flush_bytes * LARGE_PORTIONS_HELD
        )

    def positions(self, event_ids: Collection[str]) -> dict[str, list[Position]]:
        """Positions of interactions with these event ids that may not be in the lake yet."""
        positions: dict[str, list[Position]] = {}
        for portion in (self._writing, self._filling):
            for source, offset, row in portion.rows.get(INTERACTIONS, ()):
                if row[0] in event_ids:
                    positions.setdefault(row[0], []).append(Position(source.name, offset))
        return positions

    def add(self, batch: Batch) -> None:
        """Take a batch after its other effects."""
        portion = self._filling
        if not portion.next_offsets:
            portion.since = time.monotonic()
        for message in batch.messages:
            if message.offset < self._taken.get(message.source, 0):
                continue  # Read again before it was written.
            table, as_row = TABLES[message.source.topic]
            portion.rows.setdefault(table, []).append(
                (message.source, message.offset, as_row(message))
            )
        portion.count += len(batch.messages)
        portion.size += sum(message.size + ROW_OVERHEAD for message in batch.messages)
        portion.next_offsets.update(batch.next_offsets)
        self._taken.update(batch.next_offsets)

    def step(self) -> Mapping[Source, int]:
        """Begin to write what is due, without waiting for it.

        Returns the next offsets of sources with rows that reached the lake since the last step.
        """
        now = time.monotonic()
        if self._job is None:
            portion = self._filling
            due = (
                portion.count >= self._flush_rows
                or portion.size >= self._flush_bytes
                or now - portion.since >= self._flush_s
            )
            if self._writing.next_offsets:  # A failed portion comes first.
                if now >= self._retry_at:
                    self._job = self._writer.submit(self._write, self._writing)
            elif portion.next_offsets and due:
                self._filling, self._writing = _Portion(), portion
                self._job = self._writer.submit(self._write, portion)
        return self._finish() if self._job is not None and self._job.done() else {}

    def drain(self, timeout_s: float) -> Mapping[Source, int]:
        """Write everything now, and give up on a failure or after `timeout_s`.

        Returns the next offsets of sources with rows that have reached the lake.
        """
        deadline = time.monotonic() + timeout_s
        reached: NextOffsets = {}
        while not self.empty:
            self._filling.since = self._retry_at = 0.0
            reached.update(self.step())
            if self._job is None:
                if self.failure:
                    break
                continue
            try:
                self._job.exception(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                break
        return reached

    def abandon(self) -> None:
        """Drop everything that is not in the lake yet: it will be read again."""
        self._filling, self._writing, self._job = _Portion(), _Portion(), None
        self._taken.clear()
        self.failure, self._retry_at = None, 0.0

    def close(self) -> None:
        """Release the writing thread."""
        self._writer.shutdown(wait=False, cancel_futures=True)

    def _finish(self) -> Mapping[Source, int]:
        assert self._job is not None  # noqa: S101
        job, self._job = self._job, None
        try:
            job.result()
        except LakeUnavailableError as error:
            if self.failure is None:
                log.error("the lake can't be written; offsets wait", reason=str(error))
            self.failure = str(error)
            self._retry_at = time.monotonic() + _RETRY_S
            return {}
        if self.failure is not None:
            log.info("the lake can be written again")
        self.failure = None
        written, self._writing = self._writing, _Portion()
        return written.next_offsets

    def _write(self, portion: _Portion) -> None:
        for table, rows in portion.rows.items():
            while self._held():  # The asker's time is limited, should it have died.
                time.sleep(_HELD_S)
            for attempt in range(_CONFLICTS_TAKEN):
                try:
                    _append_fresh(self._lake, table, rows)
                    break
                except LakeConflictError as error:
                    if attempt == _CONFLICTS_TAKEN - 1:
                        raise LakeUnavailableError(str(error)) from error


def _append_fresh(lake: Lake, table: str, rows: list[tuple[Source, int, Row]]) -> None:
    """Append the rows that the table does not hold yet."""
    applied = lake.applied_offsets(table, list({source for source, _, _ in rows}))
    fresh = [(source, offset, row) for source, offset, row in rows if offset > applied[source]]
    if fresh:
        lake.append(
            table,
            as_table(table, [row for _, _, row in fresh]),
            {source: offset for source, offset, _ in fresh},
        )
