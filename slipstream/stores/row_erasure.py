"""Erasure of visitors' rows from Delta tables: one pass finds the rows of all visitors.

Rows are deleted by their positions in the stream, so that Delta's log, which keeps the condition of
a deletion, names no visitor.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from slipstream.contracts.positions import Cut, source_name, stands_before
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.stores import delta
from slipstream.stores.tables import INTERACTIONS, RECOMMENDATIONS

# The columns of a table that may name a visitor, and its columns of times. The earliest time says
# when a row was made.
ROWS_OF_VISITORS: Final = {
    INTERACTIONS: (("user_id", "anonymous_id"), ("timestamp", "received_at")),
    RECOMMENDATIONS: (("user_id",), ("timestamp",)),
}
_POSITION: Final = ("topic_id", "partition", "offset")
# Positions in one condition.
_POSITIONS: Final = 20_000
# Attempts to delete while others write. Then they are asked to wait.
_BESIDE_WRITERS: Final = 3
_ATTEMPTS: Final = 60

# The position of a row: topic id, partition and offset.
RowPosition = tuple[str, int, int]
# Asks the writers of the lake to wait for a while.
Hold = Callable[[], None]
# Positions of rows, by the day of their partition; None for a table without partitions.
FoundRows = Mapping[Any, Collection[RowPosition]]


class RowErasure(NamedTuple):
    """An erasure of these visitors' rows that stand before `cut`, and of those made before.

    A row was made before the erasure when its time (ms) is not later than `before`; a slate, when
    it is not later than `slates_until`.
    """

    visitor_ids: frozenset[str]
    cut: Cut
    before: int
    slates_until: int = 0

    def covers(self, table: str, position: RowPosition, made_at: int) -> bool:
        """Whether the erasure takes a row of one of its visitors."""
        topic_id, partition, offset = position
        until = self.before
        if table == RECOMMENDATIONS:
            until = max(until, self.slates_until)
        return made_at <= until or bool(
            stands_before(self.cut, source_name(topic_id, partition), offset)
        )


def find(opened: DeltaTable, table: str, erasures: Sequence[RowErasure]) -> FoundRows:
    """The rows that these erasures take, in one pass over the table."""
    columns, times = ROWS_OF_VISITORS[table]
    of_visitor: dict[str, list[RowErasure]] = {}
    for erasure in erasures:
        for visitor_id in erasure.visitor_ids:
            of_visitor.setdefault(visitor_id, []).append(erasure)
    wanted = pa.array(of_visitor, pa.string())
    found: dict[Any, set[RowPosition]] = {}
    schema = pa.schema(
        [
            field
            for field in delta.arrow_schema(opened)
            if field.name in (*columns, *times, *_POSITION, delta.RECEIVED_DATE)
        ]
    )
    for batch in delta.batches(opened, schema):
        named = [pc.is_in(batch[column], wanted) for column in columns]
        for row in batch.filter(reduce(pc.or_, named)).to_pylist():
            position = row["topic_id"], row["partition"], row["offset"]
            theirs = (erasure for column in columns for erasure in of_visitor.get(row[column], ()))
            made_at = min(row[time] for time in times)
            if any(erasure.covers(table, position, made_at) for erasure in theirs):
                found.setdefault(row.get(delta.RECEIVED_DATE), set()).add(position)
    return found


def delete(open_newest: Callable[[], DeltaTable], rows: FoundRows, hold: Hold) -> int:
    """Delete rows, one partition of the table at a time; returns their number.

    An append goes to today's partition, and a deletion is refused only when rows came to a
    partition that it has read. So only that of today competes with writers. `hold` asks the writers
    to wait, before the last attempts.
    """
    deleted = 0
    for date, positions in sorted(rows.items(), key=lambda entry: str(entry[0])):
        ordered = sorted(positions)
        for begin in range(0, len(ordered), _POSITIONS):
            condition = _condition(ordered[begin : begin + _POSITIONS])
            at = "" if date is None else f"{delta.RECEIVED_DATE} = '{date}' AND "
            deleted += _delete(open_newest, f"{at}({condition})", hold)
    return deleted


def _condition(positions: Sequence[RowPosition]) -> str:
    by_source: dict[tuple[str, int], list[int]] = {}
    for topic_id, partition, offset in positions:
        by_source.setdefault((topic_id, partition), []).append(offset)
    return " OR ".join(
        f"(topic_id = '{topic_id}' AND \"partition\" = {partition} AND "
        f'"offset" IN ({", ".join(map(str, offsets))}))'
        for (topic_id, partition), offsets in by_source.items()
    )


def _delete(open_newest: Callable[[], DeltaTable], condition: str, hold: Hold) -> int:
    for attempt in range(_ATTEMPTS):
        if attempt >= _BESIDE_WRITERS:
            hold()
        now = now_ms()
        marker = CommitProperties(
            app_transactions=[Transaction(f"{delta.ERASURE}:{now // DAY_MS}", now)]
        )
        try:
            return int(
                open_newest().delete(condition, commit_properties=marker)["num_deleted_rows"]
            )
        except CommitFailedError:  # a writer or the upkeep was faster
            if attempt == _ATTEMPTS - 1:
                raise
            delta.pause(attempt)
    raise AssertionError("unreachable")
