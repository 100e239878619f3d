"""A visitor's rows are deleted, and gone from the disk after vacuum."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Cut, Source
from slipstream.stores.lake import (
    CATALOG,
    INTERACTIONS,
    RECOMMENDATIONS,
    SCHEMAS,
    Lake,
    LakeConflictError,
    LakeUnavailableError,
)
from slipstream.stores.row_erasure import ROWS_OF_VISITORS, RowErasure
from tests.unit.stores.lake_rows import catalog_rows, rows, slates

SOURCE = Source("interactions.v1", "topic-1", 3)


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    return Lake(lake_settings, "shop")


@pytest.fixture
def shop(lake: Lake) -> Lake:
    """Two days of Ada, who was the device phone-1 before, and of Bob."""
    for number, date in enumerate(("2026-01-01", "2026-01-02")):
        lake.append(
            INTERACTIONS, rows(f"ada-{number}", user_id="ada", date=date), {SOURCE: 10 * number}
        )
        lake.append(
            INTERACTIONS, rows(f"bob-{number}", user_id="bob", date=date), {SOURCE: 10 * number + 1}
        )
        lake.append(
            INTERACTIONS,
            rows(f"dev-{number}", user_id="x", anonymous_id="phone-1", date=date),
            {SOURCE: 10 * number + 2},
        )
    lake.append(RECOMMENDATIONS, slates("ada", "bob", "phone-1"), {SOURCE: 0})
    lake.append(
        CATALOG, catalog_rows(("user", "ada"), ("user", "bob"), ("item", "ada")), {SOURCE: 0}
    )
    return lake


def erase(lake: Lake, *visitors: str, cut: Cut | None = None, before: int = 2**62) -> int:
    erasure = RowErasure(frozenset(visitors), cut or {}, before)
    return sum(lake.erase(table, [erasure]) for table in ROWS_OF_VISITORS)


def everything(lake: Lake) -> dict[str, list[str]]:
    asked = ((INTERACTIONS, "event_id"), (RECOMMENDATIONS, "user_id"), (CATALOG, "entity_id"))
    return {table: sorted(lake.read(table)[column].to_pylist()) for table, column in asked}


def values_on_disk(folder: Path) -> Iterator[str]:
    """Every text in every Parquet file of the data, whether a version needs it or not."""
    for path in folder.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            for column in pq.read_table(path, partitioning=None).columns:
                yield from (value for value in column.to_pylist() if isinstance(value, str))


def test_events_and_slates_of_a_visitor_go_and_others_stay(shop: Lake) -> None:
    assert erase(shop, "ada", "phone-1") == 4 + 2
    assert everything(shop) == {
        INTERACTIONS: ["bob-0", "bob-1"],
        RECOMMENDATIONS: ["bob"],
        CATALOG: ["ada", "ada", "bob"],
    }
    assert erase(shop, "ada", "phone-1") == 0
    assert shop.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 12


def test_a_request_read_again_leaves_what_came_after_it(lake: Lake) -> None:
    lake.append(INTERACTIONS, rows("before", user_id="ada", received_at=100), {SOURCE: 0})
    after = rows("after", user_id="ada", timestamp=101, received_at=101)
    lake.append(INTERACTIONS, after, {SOURCE: 1})
    assert [erase(lake, "ada", before=100) for _ in range(2)] == [1, 0]
    assert lake.read(INTERACTIONS)["event_id"].to_pylist() == ["after"]


def test_erased_rows_are_gone_from_the_files_after_vacuum(shop: Lake, tmp_path: Path) -> None:
    shop.compact(INTERACTIONS, 2)
    assert {"ada", "phone-1"} <= set(values_on_disk(tmp_path))
    erase(shop, "ada", "phone-1")
    for table in SCHEMAS:
        shop.vacuum(table, 0)
    left = set(values_on_disk(tmp_path / "lake" / "shop" / INTERACTIONS)) | set(
        values_on_disk(tmp_path / "lake" / "shop" / RECOMMENDATIONS)
    )
    assert "bob" in left and not left & {"ada", "phone-1", "ada-0", "ada-1", "dev-0", "dev-1"}
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*.parquet"))
    assert b"ada-0" not in raw and b"dev-1" not in raw, "the files of the log hold no ids either"
    log = "".join(path.read_text() for path in (tmp_path / "lake").rglob("_delta_log/*.json"))
    assert '"ada' not in log and "'ada" not in log and "phone-1" not in log


def test_vacuum_after_an_erasure_takes_what_was_before_it_and_only_that(shop: Lake) -> None:
    first = shop.version(INTERACTIONS)
    assert shop.vacuum(INTERACTIONS, 720, erasure_h=0) == 0, "nothing was erased yet"
    erase(shop, "ada")
    after = shop.version(INTERACTIONS)
    assert shop.vacuum(INTERACTIONS, 720, erasure_h=48) == 0, "it is not so long ago"
    # A writer that has not committed yet keeps its file.
    folder = Path(shop._uri(INTERACTIONS))
    for path in folder.rglob("*.parquet"):
        os.utime(path, (1, 1))
    being_written, abandoned = folder / "part-new.parquet", folder / "part-old.parquet"
    for path in (being_written, abandoned):
        path.write_bytes(b"PAR1")
    os.utime(abandoned, (1, 1))
    assert shop.vacuum(INTERACTIONS, 720, erasure_h=0) > 0
    assert being_written.exists() and not abandoned.exists()
    with pytest.raises(LakeUnavailableError):
        shop.read(INTERACTIONS, first)
    assert shop.read(INTERACTIONS, after).num_rows == 4


def test_erasing_beside_three_writers_wins_once_they_wait_and_loses_no_row(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    lake.append(INTERACTIONS, rows("ada-old", user_id="ada"), {SOURCE: 0})
    held, stop, written = threading.Event(), threading.Event(), list[str]()

    def write(number: int) -> None:
        writer, source = Lake(lake_settings, "shop"), Source("interactions.v1", "topic-1", number)
        offset = 0
        while not stop.is_set():
            if held.is_set():
                stop.wait(0.01)
                continue
            event_id = f"bob-{number}-{offset}"
            with contextlib.suppress(LakeConflictError):
                writer.applied_offsets(INTERACTIONS, [source])
                table = rows(event_id, user_id="bob", partition=number, offset=offset)
                writer.append(INTERACTIONS, table, {source: offset})
                written.append(event_id)
                offset += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in (4, 5, 6)]
    for thread in threads:
        thread.start()
    try:
        gone = RowErasure(frozenset({"ada"}), {}, 2**62)
        assert lake.erase(INTERACTIONS, [gone], held.set) == 1
    finally:
        held.clear()
        before = len(written)
        while len(written) < before + 3:
            stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    left = lake.read(INTERACTIONS)["event_id"].to_pylist()
    assert sorted(left) == sorted(written)


def test_one_pass_takes_each_visitor_up_to_its_own_cut(lake: Lake) -> None:
    for offset, user in enumerate(["ada", "bob", "ada", "bob"]):
        table = rows(f"{user}-{offset}", user_id=user, partition=3, offset=offset)
        lake.append(INTERACTIONS, table, {SOURCE: offset})
    before = lake.version(INTERACTIONS)
    cuts = {
        user: RowErasure(frozenset({user}), {"interactions.v1": {SOURCE.name: end}}, 0)
        for user, end in (("ada", 1), ("bob", 4))
    }
    assert lake.erase(INTERACTIONS, [*cuts.values()]) == 3
    assert lake.read(INTERACTIONS)["event_id"].to_pylist() == ["ada-2"]
    assert lake.version(INTERACTIONS) == (before or 0) + 1, "one commit for all"


def test_a_lake_without_tables_has_nothing_to_erase(lake: Lake) -> None:
    assert erase(lake, "ada") == 0


def test_slates_go_up_to_a_later_time_than_other_rows() -> None:
    gone = RowErasure(frozenset({"ada"}), {}, before=10, slates_until=20)
    here = ("topic-1", 3, 5)
    assert [gone.covers(INTERACTIONS, here, made) for made in (10, 11, 20)] == [True, False, False]
    assert [gone.covers(RECOMMENDATIONS, here, made) for made in (20, 21)] == [True, False]
