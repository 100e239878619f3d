from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores import delta
from slipstream.stores.lake import (
    CATALOG,
    INTERACTIONS,
    RECOMMENDATIONS,
    SCHEMAS,
    Lake,
    LakeConflictError,
    LakeUnavailableError,
)
from tests.unit.stores.lake_rows import slates

SOURCE = Source("interactions.v1", "topic-1", 3)
OTHER = Source("interactions.v1", "topic-1", 4)


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    return Lake(lake_settings, "shop")


def rows(*event_ids: str, date: str = "2026-01-01") -> pa.Table:
    schema = SCHEMAS[INTERACTIONS]
    known = {
        "event_type": "view",
        "user_id": "u",
        "timestamp": 1,
        "received_at": 2,
        "received_date": date,
        "properties": "{}",
    }
    return pa.Table.from_pylist(
        [{**known, "event_id": event_id} for event_id in event_ids], schema=schema
    )


def ids(lake: Lake, version: int | None = None) -> list[str]:
    return sorted(lake.read(INTERACTIONS, version, ["event_id"])["event_id"].to_pylist())


def test_a_lake_without_tables_reads_as_empty(lake: Lake) -> None:
    assert (
        lake.version(INTERACTIONS),
        lake.count(INTERACTIONS),
        lake.read(INTERACTIONS).num_rows,
    ) == (None, 0, 0)
    assert lake.read(INTERACTIONS).schema == SCHEMAS[INTERACTIONS]
    assert (lake.compact(INTERACTIONS), lake.vacuum(INTERACTIONS, 1)) == (0, 0)


def test_newest_rows_come_by_day_and_no_file_is_opened_before_it_is_needed(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    assert list(lake.newest(INTERACTIONS, ["event_id"])) == []
    for name, date in (("old", "2026-01-01"), ("new", "2026-01-03"), ("mid", "2026-01-02")):
        lake.append(INTERACTIONS, rows(name, date=date), {Source("t", name, 0): 0})
    batches = lake.newest(INTERACTIONS, ["event_id", "maybe_repeat"])
    assert next(batches).to_pylist() == [{"event_id": "new", "maybe_repeat": None}]
    for file in Path(lake_settings.uri).glob("**/received_date=2026-01-01/*.parquet"):
        file.unlink()
    assert next(batches)["event_id"].to_pylist() == ["mid"]
    with pytest.raises(LakeUnavailableError):
        next(batches)


def test_append_records_rows_and_offsets_together(lake: Lake, lake_settings: LakeSettings) -> None:
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == -1
    version = lake.append(INTERACTIONS, rows("a", "b"), {SOURCE: 7})
    reopened = Lake(lake_settings, "shop")
    assert reopened.version(INTERACTIONS) == version
    assert reopened.applied_offsets(INTERACTIONS, [SOURCE, OTHER]) == {SOURCE: 7, OTHER: -1}
    assert (ids(reopened), reopened.count(INTERACTIONS)) == (["a", "b"], 2)


def test_an_older_version_reads_as_it_was_also_after_compaction(lake: Lake) -> None:
    first = lake.append(INTERACTIONS, rows("a"), {SOURCE: 1})
    for number in range(5):
        lake.append(INTERACTIONS, rows(f"b{number}"), {SOURCE: 2 + number})
    assert lake.compact(INTERACTIONS, 3) == 5
    assert ids(lake, first) == ["a"]
    assert (lake.count(INTERACTIONS, first), lake.count(INTERACTIONS)) == (1, 6)
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 6


def test_append_is_refused_when_another_writer_took_the_source_meanwhile(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    other = Lake(lake_settings, "shop")
    assert (
        lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
        == other.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
        == -1
    )
    other.append(INTERACTIONS, rows("a"), {SOURCE: 1})
    with pytest.raises(LakeConflictError):
        lake.append(INTERACTIONS, rows("a", "b"), {SOURCE: 2})
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 1
    lake.append(INTERACTIONS, rows("b"), {SOURCE: 2})
    assert ids(lake) == ["a", "b"]


def test_a_writer_that_others_overtake_at_each_attempt_may_ask_again(
    lake: Lake, lake_settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Lake(lake_settings, "shop")
    lake.applied_offsets(INTERACTIONS, [SOURCE])
    other.append(INTERACTIONS, rows("a"), {OTHER: 0})
    with monkeypatch.context() as patched:
        patched.setattr(delta, "CommitProperties", partial(CommitProperties, max_commit_retries=0))
        with pytest.raises(LakeConflictError):
            lake.append(INTERACTIONS, rows("b"), {SOURCE: 0})
    lake.applied_offsets(INTERACTIONS, [SOURCE])
    lake.append(INTERACTIONS, rows("b"), {SOURCE: 0})
    assert ids(lake) == ["a", "b"]


def test_writers_of_different_sources_do_not_disturb_each_other(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    other = Lake(lake_settings, "shop")
    for each, source in ((lake, SOURCE), (other, OTHER)):
        each.applied_offsets(INTERACTIONS, [source])[source]
    other.append(INTERACTIONS, rows("a"), {OTHER: 0})
    lake.append(INTERACTIONS, rows("b"), {SOURCE: 0})
    assert ids(lake) == ["a", "b"]


def test_compaction_leaves_partitions_alone_that_have_few_files(lake: Lake) -> None:
    for number in range(4):
        lake.append(INTERACTIONS, rows(f"a{number}"), {SOURCE: number})
    lake.append(INTERACTIONS, rows("z", date="2026-01-02"), {SOURCE: 9})
    assert lake.compact(INTERACTIONS, 5) == 0
    assert lake.compact(INTERACTIONS, 4) == 3
    assert len(ids(lake)) == 5


def test_vacuum_deletes_what_only_older_versions_need(lake: Lake, tmp_path: Path) -> None:
    first = lake.append(INTERACTIONS, rows("a"), {SOURCE: 0})
    lake.append(INTERACTIONS, rows("b"), {SOURCE: 1})
    lake.compact(INTERACTIONS, 2)
    assert lake.vacuum(INTERACTIONS, 1) == 0
    assert ids(lake, first) == ["a"]
    assert lake.vacuum(INTERACTIONS, 0) == 2
    assert ids(lake) == ["a", "b"]
    with pytest.raises(LakeUnavailableError):
        lake.read(INTERACTIONS, first)


def test_the_unpartitioned_catalogue_is_compacted_too(lake: Lake) -> None:
    entry = {
        "entity": "item",
        "entity_id": "a",
        "attributes": "{}",
        "available": True,
        "deleted": False,
        "timestamp": 1,
    }
    for number in range(3):
        lake.append(
            CATALOG, pa.Table.from_pylist([entry], schema=SCHEMAS[CATALOG]), {SOURCE: number}
        )
    assert lake.compact(CATALOG, 3) == 2
    assert lake.count(CATALOG) == 3


def test_checkpoints_keep_opening_cheap(lake: Lake, tmp_path: Path) -> None:
    for number in range(51):
        lake.append(INTERACTIONS, rows(f"a{number}"), {SOURCE: number})
    assert list(
        (tmp_path / "lake" / "shop" / INTERACTIONS / "_delta_log").glob("*.checkpoint.parquet")
    )


def test_a_lake_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lake = Lake(LakeSettings(uri=str(tmp_path / "file" / "lake")), "shop")
    with pytest.raises(LakeUnavailableError):
        lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
    with pytest.raises(LakeUnavailableError):
        lake.append(INTERACTIONS, rows("a"), {SOURCE: 0})


def test_a_slate_is_found_by_its_id_in_the_minute_of_its_time(lake: Lake) -> None:
    day_ms = 1_795_824_000_000  # 2026-11-28
    assert lake.slate("r-ada", day_ms) is None
    for date in ("2026-11-27", "2026-11-28"):
        table = slates(f"ada-{date}", date=date)
        place = table.schema.get_field_index("timestamp")
        table = table.set_column(place, "timestamp", pa.array([day_ms], pa.int64()))
        lake.append(RECOMMENDATIONS, table, {})
    found = lake.slate("r-ada-2026-11-28", day_ms)
    assert found is not None
    assert (found["user_id"], found["circumstances"]) == ("ada-2026-11-28", None)
    assert lake.slate("r-ada-2026-11-27", day_ms) is None
    assert lake.slate("r-ada-2026-11-28", day_ms - 30_000) is not None
    assert lake.slate("r-ada-2026-11-28", day_ms + 1) is None


def test_a_column_of_old_days_is_emptied_once(lake: Lake) -> None:
    day_ms = 1_795_824_000_000  # 2026-11-28
    assert lake.empty(RECOMMENDATIONS, "circumstances", day_ms) == 0
    for date in ("2026-11-26", "2026-11-27", "2026-11-28"):
        table = slates("ada", "bob", date=date)
        column = pa.array(['{"form":1}', None])
        table = table.set_column(
            table.schema.get_field_index("circumstances"), "circumstances", column
        )
        lake.append(RECOMMENDATIONS, table, {})
    assert lake.empty(RECOMMENDATIONS, "circumstances", day_ms) == 2
    rows = lake.read(RECOMMENDATIONS).to_pylist()
    kept = [row["received_date"] for row in rows if row["circumstances"] is not None]
    assert kept == ["2026-11-28"]
    assert len(rows) == 6
    assert {row["recommendation_id"] for row in rows} == {"r-ada", "r-bob"}
    version = lake.version(RECOMMENDATIONS)
    assert lake.empty(RECOMMENDATIONS, "circumstances", day_ms) == 0
    assert lake.version(RECOMMENDATIONS) == version
