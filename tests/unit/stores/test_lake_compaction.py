"""Compactions of one table by several processes, which Delta alone would let stand side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from slipstream.stores.lake import LEFT_BEHIND_S, ROWS_OF_A_GROUP, Compaction, _put
from slipstream.stores.tables import CATALOG, make, stored_schema

FILES = 8
MERGE = (2, 2**27)


@pytest.fixture
def open_newest(tmp_path: Path) -> Callable[[], DeltaTable]:
    opened = make(str(tmp_path / CATALOG), CATALOG, {})
    for number in range(FILES):
        row = {"entity": "item", "entity_id": f"i{number}", "timestamp": number, "deleted": False}
        added = pa.Table.from_pylist([row], schema=stored_schema(CATALOG))
        write_deltalake(opened, added, mode="append")
    return partial(DeltaTable, str(tmp_path / CATALOG))


def items(open_newest: Callable[[], DeltaTable]) -> list[str]:
    return sorted(open_newest().to_pyarrow_table(columns=["entity_id"])["entity_id"].to_pylist())


ALL = [f"i{number}" for number in range(FILES)]


def test_who_saw_the_table_before_another_compacted_it_leaves_it_alone(
    open_newest: Callable[[], DeltaTable],
) -> None:
    before = open_newest()
    assert Compaction().run(open_newest, *MERGE) == FILES - 1
    tables = iter([before])
    assert Compaction().run(lambda: next(tables, None) or open_newest(), *MERGE) == 0
    assert items(open_newest) == ALL


def test_compactions_at_the_same_moment_leave_each_row_once(
    open_newest: Callable[[], DeltaTable],
) -> None:
    with ThreadPoolExecutor(4) as pool:
        gone = [pool.submit(Compaction().run, open_newest, *MERGE) for _ in range(4)]
    assert sorted(each.result() for each in gone) == [0, 0, 0, FILES - 1]
    assert items(open_newest) == ALL


def test_a_claim_keeps_others_away_until_it_has_stood_still_for_long(
    open_newest: Callable[[], DeltaTable],
) -> None:
    _put(open_newest(), 7)
    now = [0.0]
    waiting = Compaction(clock=lambda: now[0])
    assert waiting.run(open_newest, *MERGE) == 0
    now[0] = LEFT_BEHIND_S - 1
    assert waiting.run(open_newest, *MERGE) == 0
    _put(open_newest(), 8)
    now[0] = LEFT_BEHIND_S + 1
    assert waiting.run(open_newest, *MERGE) == 0, "it is another one's, who has just begun"
    now[0] = 2 * LEFT_BEHIND_S + 1
    assert waiting.run(open_newest, *MERGE) == FILES - 1
    assert Compaction().run(open_newest, *MERGE) == 0
    assert items(open_newest) == ALL


def test_merged_files_have_small_row_groups_and_are_compressed(
    open_newest: Callable[[], DeltaTable],
) -> None:
    rows = 2 * ROWS_OF_A_GROUP + 1
    wide = {"entity": "item", "entity_id": "i0", "timestamp": 9, "deleted": False}
    table = pa.Table.from_pylist([wide] * rows, schema=stored_schema(CATALOG))
    write_deltalake(open_newest(), table, mode="append")
    assert Compaction().run(open_newest, *MERGE) == FILES
    (uri,) = open_newest().file_uris()
    written = pq.ParquetFile(uri).metadata
    groups = [written.row_group(place) for place in range(written.num_row_groups)]
    assert sum(group.num_rows for group in groups) == rows + FILES
    assert max(group.num_rows for group in groups) == ROWS_OF_A_GROUP
    assert {group.column(0).compression for group in groups} == {"ZSTD"}
