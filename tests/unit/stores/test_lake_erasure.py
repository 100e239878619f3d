"""A visitor's rows are deleted, and gone from the disk after vacuum."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores.lake import (
    CATALOG,
    INTERACTIONS,
    RECOMMENDATIONS,
    SCHEMAS,
    Lake,
    LakeConflictError,
    LakeUnavailableError,
)
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


def everything(lake: Lake) -> dict[str, list[str]]:
    asked = ((INTERACTIONS, "event_id"), (RECOMMENDATIONS, "user_id"), (CATALOG, "entity_id"))
    return {table: sorted(lake.read(table)[column].to_pylist()) for table, column in asked}


def values_on_disk(folder: Path) -> Iterator[str]:
    """Every text in every Parquet file of the data, whether a version needs it or not."""
    for path in folder.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            for column in pq.read_table(path, partitioning=None).columns:
                yield from (value for value in column.to_pylist() if isinstance(value, str))


def test_rows_of_a_visitor_go_from_all_tables_and_others_stay(shop: Lake) -> None:
    assert shop.erase(["ada", "phone-1"]) == 4 + 2 + 1
    assert everything(shop) == {
        INTERACTIONS: ["bob-0", "bob-1"],
        RECOMMENDATIONS: ["bob"],
        CATALOG: ["ada", "bob"],
    }
    assert shop.erase(["ada", "phone-1"]) == 0
    assert shop.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 12


def test_a_request_read_again_leaves_what_came_after_it(lake: Lake) -> None:
    lake.append(INTERACTIONS, rows("before", user_id="ada", received_at=100), {SOURCE: 0})
    lake.append(INTERACTIONS, rows("after", user_id="ada", received_at=101), {SOURCE: 1})
    assert [lake.erase(["ada"], before=100) for _ in range(2)] == [1, 0]
    assert lake.read(INTERACTIONS)["event_id"].to_pylist() == ["after"]


def test_erased_rows_are_gone_from_the_files_after_vacuum(shop: Lake, tmp_path: Path) -> None:
    shop.compact(INTERACTIONS, 2)
    assert {"ada", "phone-1"} <= set(values_on_disk(tmp_path))
    shop.erase(["ada", "phone-1"])
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
    shop.erase(["ada"])
    after = shop.version(INTERACTIONS)
    assert shop.vacuum(INTERACTIONS, 720, erasure_h=48) == 0, "it is not so long ago"
    assert shop.vacuum(INTERACTIONS, 720, erasure_h=0) > 0
    with pytest.raises(LakeUnavailableError):
        shop.read(INTERACTIONS, first)
    assert shop.read(INTERACTIONS, after).num_rows == 4


def test_erasing_beside_a_writer_loses_no_row_of_others(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    writer, stop, written = Lake(lake_settings, "shop"), threading.Event(), list[str]()
    lake.append(
        INTERACTIONS, rows("ada-old", user_id="ada"), {Source("interactions.v1", "topic-0", 0): 0}
    )

    def write() -> None:
        offset = writer.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
        # On a slow machine a deletion may take longer than these pauses, and would never win.
        while len(written) < 40 and not stop.wait(0.02):
            offset += 1
            try:
                both = [{"event_id": f"{who}-{offset}", "user_id": who} for who in ("ada", "bob")]
                writer.append(
                    INTERACTIONS, rows(both[0]["event_id"], user_id="ada"), {SOURCE: 2 * offset}
                )
                writer.append(
                    INTERACTIONS, rows(both[1]["event_id"], user_id="bob"), {SOURCE: 2 * offset + 1}
                )
            except LakeConflictError:
                offset = -(-writer.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] // 2)
            else:
                written.append(f"bob-{offset}")

    def erase() -> int:
        try:
            return lake.erase(["ada"])
        except LakeUnavailableError:  # the writer was faster each time
            return 0

    thread = threading.Thread(target=write)
    thread.start()
    try:
        erased = sum(erase() for _ in range(3))
    finally:
        stop.set()
        thread.join()
    erased += lake.erase(["ada"])
    left = lake.read(INTERACTIONS)["event_id"].to_pylist()
    assert erased > 0 and not [event_id for event_id in left if event_id.startswith("ada")]
    assert set(written) <= set(left) and len(left) == len(set(left))


def test_a_lake_without_tables_has_nothing_to_erase(lake: Lake) -> None:
    assert lake.erase(["ada"]) == 0
