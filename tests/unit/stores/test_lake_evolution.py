"""Tables that an older or a newer version of the program made."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores import tables
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake
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
