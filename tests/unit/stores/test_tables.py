"""Tables of the lake: their columns and comments, and tables that another version made."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores import tables
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake, LakeUnavailableError
from slipstream.stores.tables import TABLES, stored_schema, with_timestamps
from tests.unit.stores.lake_rows import catalog_rows, rows

SOURCE = Source("interactions.v1", "topic-1", 3)
NOW = stored_schema(INTERACTIONS)


@pytest.mark.parametrize(
    "columns",
    [
        pa.schema([field for field in NOW if field.name != "weight"]),
        pa.schema([field for field in NOW if not field.name.endswith("_utc")]),
        NOW.append(pa.field("consent", pa.string())),
        NOW.set(NOW.get_field_index("value"), pa.field("value", pa.string())),
    ],
    ids=["without a column", "without timestamps", "with another column", "with another type"],
)
def test_a_table_with_other_columns_is_refused_and_stays(
    columns: pa.Schema, lake_settings: LakeSettings
) -> None:
    DeltaTable.create(
        f"{lake_settings.uri}/shop/{INTERACTIONS}", columns, partition_by=["received_date"]
    )
    lake = Lake(lake_settings, "shop")
    for use in (
        lambda: lake.append(INTERACTIONS, rows("a"), {SOURCE: 0}),
        lambda: lake.applied_offsets(INTERACTIONS, [SOURCE]),
        lambda: lake.read(INTERACTIONS),
        lambda: lake.version(INTERACTIONS),
    ):
        with pytest.raises(LakeUnavailableError, match=r"interactions .* begin with an empty"):
            use()
    with pytest.raises(RefusedSettingsError, match="begin with an empty folder"):
        lake.refuse_other_version()
    assert opened(lake_settings, INTERACTIONS).version() == 0


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


def test_rows_have_their_times_as_timestamps_too(lake_settings: LakeSettings) -> None:
    lake = Lake(lake_settings, "shop")
    lake.refuse_other_version()
    lake.append(INTERACTIONS, rows("a", timestamp=2, received_at=1_000), {SOURCE: 0})
    lake.refuse_other_version()
    (row,) = opened(lake_settings, INTERACTIONS).to_pyarrow_table().to_pylist()
    assert (row["timestamp_utc"], row["received_at_utc"]) == (at(2), at(1_000))


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_tables_have_descriptions_and_comments(table: str, lake_settings: LakeSettings) -> None:
    Lake(lake_settings, "shop").applied_offsets(table, [SOURCE])
    made = opened(lake_settings, table)
    assert all(field.metadata["comment"] for field in made.schema().fields)
    assert made.metadata().description == TABLES[table]


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


def opened(settings: LakeSettings, table: str) -> DeltaTable:
    return DeltaTable(f"{settings.uri}/shop/{table}")


def at(millis: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
