"""Tables that an older or a newer version of the program made."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores import delta, tables
from slipstream.stores import lake as lake_module
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake
from slipstream.stores.tables import TABLES, stored_schema, with_timestamps
from tests.unit.stores.lake_rows import catalog_rows, rows

SOURCE = Source("interactions.v1", "topic-1", 3)
NOW = tables.SCHEMAS[INTERACTIONS]
# Before `value` and `session_id`; and with two columns that do not exist yet, one of them in the
# middle.
OLDER = pa.schema([field for field in NOW if field.name not in ("value", "session_id")])
NEWER = pa.schema(
    [
        *list(NOW)[:3],
        pa.field("consent", pa.list_(pa.string())),
        *list(NOW)[3:],
        pa.field("score", pa.float64()),
    ]
)


@pytest.fixture
def schemas() -> Iterator[dict[str, pa.Schema]]:
    """The tables as the program knows them, for a test to make older or newer."""
    before = dict(tables.SCHEMAS)
    yield tables.SCHEMAS
    tables.SCHEMAS.update(before)


def test_an_older_table_gains_columns_and_its_rows_and_versions_read_as_nulls(
    schemas: dict[str, pa.Schema], lake_settings: LakeSettings
) -> None:
    schemas[INTERACTIONS] = OLDER
    first = Lake(lake_settings, "shop").append(INTERACTIONS, rows("old", schema=OLDER), {SOURCE: 0})
    schemas[INTERACTIONS] = NOW
    lake = Lake(lake_settings, "shop")
    assert lake.read(INTERACTIONS, columns=["event_id", "value"]).to_pylist() == [
        {"event_id": "old", "value": None}
    ]
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 0
    lake.append(INTERACTIONS, rows("new", value=2.5), {SOURCE: 1})
    assert sorted(
        lake.read(INTERACTIONS, columns=["event_id", "value"]).to_pylist(),
        key=lambda row: row["event_id"],
    ) == [
        {"event_id": "new", "value": 2.5},
        {"event_id": "old", "value": None},
    ]
    assert lake.read(INTERACTIONS, first).schema == NOW
    assert lake.read(INTERACTIONS, first)["session_id"].to_pylist() == [None]


def test_a_newer_table_can_be_read_and_written_and_keeps_its_columns(
    schemas: dict[str, pa.Schema], lake_settings: LakeSettings
) -> None:
    schemas[INTERACTIONS] = NEWER
    newer = Lake(lake_settings, "shop")
    newer.append(INTERACTIONS, rows("new", schema=NEWER, consent=["ads"], score=1.0), {SOURCE: 0})
    schemas[INTERACTIONS] = NOW
    lake = Lake(lake_settings, "shop")
    lake.append(INTERACTIONS, rows("old"), {SOURCE: 1})
    assert lake.read(INTERACTIONS).schema == NOW
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 1
    assert lake.compact(INTERACTIONS, 2) == 1
    schemas[INTERACTIONS] = NEWER
    values = {
        row["event_id"]: row["consent"]
        for row in newer.read(INTERACTIONS, columns=["event_id", "consent"]).to_pylist()
    }
    assert values == {"new": ["ads"], "old": None}


def test_a_writer_that_has_the_table_open_goes_on_when_another_adds_a_column(
    schemas: dict[str, pa.Schema], lake_settings: LakeSettings
) -> None:
    lake = Lake(lake_settings, "shop")
    lake.append(INTERACTIONS, rows("a"), {SOURCE: 0})
    schemas[INTERACTIONS] = NEWER
    Lake(lake_settings, "shop").append(
        INTERACTIONS, rows("b", schema=NEWER), {Source("interactions.v1", "topic-1", 4): 0}
    )
    schemas[INTERACTIONS] = NOW
    assert lake.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 0
    lake.append(INTERACTIONS, rows("c"), {SOURCE: 1})
    assert sorted(lake.read(INTERACTIONS, columns=["event_id"])["event_id"].to_pylist()) == [
        "a",
        "b",
        "c",
    ]


def test_partitions_before_a_day_are_not_read(lake_settings: LakeSettings) -> None:
    lake = Lake(lake_settings, "shop")
    for number, date in enumerate(("2026-01-01", "2026-01-02", "2026-01-03")):
        lake.append(INTERACTIONS, rows(date, date=date), {SOURCE: number})
    assert sorted(lake.read(INTERACTIONS, received_since="2026-01-02")["event_id"].to_pylist()) == [
        "2026-01-02",
        "2026-01-03",
    ]


def test_what_a_version_covers_is_asked_by_source(lake_settings: LakeSettings) -> None:
    lake = Lake(lake_settings, "shop")
    first = lake.append(INTERACTIONS, rows("a"), {SOURCE: 4})
    lake.append(INTERACTIONS, rows("b"), {SOURCE: 9})
    covered = lake.covered(INTERACTIONS, first)
    assert (covered("topic-1:3"), covered("topic-1:4")) == (4, -1)
    assert lake.append(CATALOG, catalog_rows(("item", "a")), {SOURCE: 0}) >= 0


def test_an_older_table_gains_timestamps_and_its_rows_have_none(
    monkeypatch: pytest.MonkeyPatch, lake_settings: LakeSettings
) -> None:
    with monkeypatch.context() as before:
        older_program(before)
        Lake(lake_settings, "shop").append(INTERACTIONS, rows("old", timestamp=1), {SOURCE: 0})
    lake = Lake(lake_settings, "shop")
    lake.append(INTERACTIONS, rows("new", timestamp=2, received_at=1_000), {SOURCE: 1})
    # One that was not updated yet goes on writing.
    with monkeypatch.context() as before:
        older_program(before)
        Lake(lake_settings, "shop").append(INTERACTIONS, rows("beside", timestamp=3), {SOURCE: 2})
    stored = opened(lake_settings, INTERACTIONS)
    times = stored.to_pyarrow_table(
        columns=["event_id", "timestamp_utc", "received_at_utc"]
    ).to_pylist()
    assert {row.pop("event_id"): tuple(row.values()) for row in times} == {
        "old": (None, None),
        "new": (at(2), at(1_000)),
        "beside": (None, None),
    }
    assert lake.compact(INTERACTIONS, 2) == 2
    assert sorted(lake.read(INTERACTIONS)["timestamp"].to_pylist()) == [1, 2, 3]


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_older_tables_gain_descriptions_and_comments_once(
    table: str, monkeypatch: pytest.MonkeyPatch, lake_settings: LakeSettings
) -> None:
    Lake(lake_settings, "made").applied_offsets(table, [SOURCE])
    with monkeypatch.context() as before:
        older_program(before)
        Lake(lake_settings, "shop").applied_offsets(table, [SOURCE])
    Lake(lake_settings, "shop").applied_offsets(table, [SOURCE])
    made, evolved = opened(lake_settings, table, "made"), opened(lake_settings, table)
    assert {field.name: field for field in made.schema().fields} == {
        field.name: field for field in evolved.schema().fields
    }
    assert all(field.metadata["comment"] for field in made.schema().fields)
    assert made.metadata().description == evolved.metadata().description == TABLES[table]
    assert made.metadata().configuration == evolved.metadata().configuration
    version = evolved.version()
    Lake(lake_settings, "shop").applied_offsets(table, [SOURCE])
    assert opened(lake_settings, table).version() == version


def test_processes_that_update_a_table_at_once_and_an_older_writer_do_not_stop_each_other(
    monkeypatch: pytest.MonkeyPatch, lake_settings: LakeSettings
) -> None:
    with monkeypatch.context() as before:
        older_program(before)
        Lake(lake_settings, "shop").append(INTERACTIONS, rows("old"), {SOURCE: 0})
    starting = [Lake(lake_settings, "shop") for _ in range(3)]
    number = 0
    with ThreadPoolExecutor() as threads:
        updates = [
            threads.submit(lake.applied_offsets, INTERACTIONS, [SOURCE]) for lake in starting
        ]
        while not all(update.done() for update in updates) or number < 3:
            with suppress(CommitFailedError):
                transactions = [Transaction(SOURCE.name, number + 1)]
                table = opened(lake_settings, INTERACTIONS)
                delta.append(table, rows(f"new-{number}"), transactions)
                number += 1
    assert all(update.result() for update in updates)
    updated = opened(lake_settings, INTERACTIONS)
    assert updated.count() == 1 + number
    assert all(field.metadata for field in updated.schema().fields)


@given(
    st.lists(st.integers(0, 253_402_300_799_999), min_size=1), st.sampled_from([*tables.SCHEMAS])
)
def test_timestamps_are_those_of_the_milliseconds(millis: list[int], table: str) -> None:
    schema = tables.SCHEMAS[table]
    columns = [name for name in ("timestamp", "received_at", "erased_at") if name in schema.names]
    made = with_timestamps(
        table,
        pa.Table.from_pylist([dict.fromkeys(columns, each) for each in millis], schema=schema),
    )
    assert made.schema == stored_schema(table)
    for name in columns:
        assert made[f"{name}_utc"].cast(pa.int64()).to_pylist() == [each * 1_000 for each in millis]


def older_program(patch: pytest.MonkeyPatch) -> None:
    """Have tables made and written as before there were timestamps and comments."""

    def make(uri: str, table: str, options: dict[str, str]) -> DeltaTable:
        schema = tables.SCHEMAS[table]
        return DeltaTable.create(
            uri,
            schema,
            mode="ignore",
            partition_by=["received_date"] if "received_date" in schema.names else None,
            configuration={"delta.dataSkippingStatsColumns": "timestamp"},
            storage_options=options,
        )

    patch.setattr(tables, "make", make)
    patch.setattr(lake_module, "with_timestamps", lambda _, rows: rows)


def opened(settings: LakeSettings, table: str, namespace: str = "shop") -> DeltaTable:
    return DeltaTable(f"{settings.uri}/{namespace}/{table}")


def at(millis: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
