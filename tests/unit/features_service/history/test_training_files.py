"""Training rows and states from a lake on disk are those of history folded in memory.

They don't depend on how rows are spread over files and buckets.
"""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.local_engine import LocalEngine
from services.features.history.sinks import Sinks
from services.features.history.training_files import (
    MANIFEST,
    OutputError,
    TrainingFiles,
    row_schema,
)
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.progress import ProgressStep
from slipstream.features import history, training_rows
from slipstream.features.training_rows import rows_between
from slipstream.stores.lake import Lake
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor
from tests.unit.features.placed_events import START, histories, placed
from tests.unit.features_service.lake_history import links, write, write_catalog

ATTRIBUTES = ("category", "brand")
CATALOGUE = [
    ("item", "a", {"category": "shoes", "price": 10}, START),
    ("item", "b", {"brand": "x"}, START + 9_000_000_000),
]


def quiet(_step: ProgressStep) -> None:
    pass


def backfilled(
    lake: Lake, folder: Path, sinks: Sinks | None = None, bucket_rows: int = 7
) -> list[dict[str, Any]]:
    snapshot = LakeSnapshot(lake, ATTRIBUTES)
    files, work = TrainingFiles(folder / "rows"), folder / "work"
    work.mkdir(exist_ok=True)
    LocalEngine(snapshot, work, quiet, bucket_rows).run(sinks or Sinks(), files, rows_between())
    files.complete({"rows": files.rows})
    tables = [pq.read_table(path) for path in sorted((folder / "rows").glob("*.parquet"))]
    assert all(table.schema == row_schema(ATTRIBUTES) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def in_memory(records: list[StreamInteraction], snapshot: LakeSnapshot) -> list[dict[str, Any]]:
    groups: dict[str, list[StreamInteraction]] = {}
    for record in records:
        groups.setdefault(
            snapshot.catalog.identities.resolve(record.interaction.user_id), []
        ).append(record)
    return training_rows.training_rows(groups, rows_between(), snapshot.catalog.item_attributes)


def by_position(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["topic_id"], row["partition"], row["offset"]))


@given(histories(sources=2), st.randoms(use_true_random=False), st.booleans())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_batch_rows_are_those_of_memory(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[StreamInteraction],
    chance: random.Random,
    merged: bool,
) -> None:
    folder = tmp_path_factory.mktemp("backfill")
    lake = Lake(LakeSettings(uri=str(folder / "lake")), "shop")
    write(lake, records, chance)
    write_catalog(lake, CATALOGUE + (links(("v", "u")) if merged else []))
    rows = by_position(backfilled(lake, folder))
    assert rows == by_position(in_memory(records, LakeSnapshot(lake, ATTRIBUTES)))
    assert not merged or {row["user_id"] for row in rows} <= {"u"}


def test_history_keeps_apart_what_a_page_said_until_it_is_proven(
    tmp_path: Path, lake_settings: LakeSettings
) -> None:
    lake = Lake(lake_settings, "shop")
    names = ("u", "v", "v~unproven")
    records = [placed(n, START + 60_000 * n, user=names[n % 3]) for n in range(12)]
    write(lake, records, random.Random(1))
    write_catalog(lake, links(("v", "u")), by_browser=True)

    def rebuilt(folder: Path) -> tuple[dict[str, RebuiltVisitor], set[str]]:
        visitors: list[RebuiltVisitor] = []
        folder.mkdir()
        rows = backfilled(lake, folder, Sinks(visitors.extend))
        return {each.user_id: each for each in visitors}, {row["user_id"] for row in rows}

    by_user, row_users = rebuilt(tmp_path / "before")
    assert by_user.keys() == row_users == {"u", "v~unproven"}
    assert (by_user["u"].members, by_user["u"].unproven) == (("v",), {"v"})
    write_catalog(lake, links(("v", "u"), at=2), first=1)
    by_user, row_users = rebuilt(tmp_path / "after")
    assert by_user.keys() == row_users == {"u"}
    assert by_user["u"].members == ("v", "v~unproven")
    assert sum(by_user["u"].state.counts.values()) == len(records)


def test_states_of_the_batch_are_those_of_memory(
    tmp_path: Path, lake_settings: LakeSettings
) -> None:
    lake = Lake(lake_settings, "shop")
    records = [placed(n, START + 60_000 * n, user=f"u{n % 5}") for n in range(60)]
    write(lake, records, random.Random(1))
    write_catalog(lake, links(("u4", "u0"), ("nobody", "ghost")))
    visitors: list[RebuiltVisitor] = []
    items: list[RebuiltItem] = []
    backfilled(lake, tmp_path, Sinks(visitors.extend, items.extend))
    groups = {f"u{n}": [r for r in records if r.interaction.user_id == f"u{n}"] for n in range(4)}
    groups["u0"] += [r for r in records if r.interaction.user_id == "u4"]
    by_user = {visitor.user_id: visitor for visitor in visitors}
    assert by_user.keys() == {*groups, "ghost"}
    assert by_user["u0"].members == ("u4", "u4~unproven")
    assert by_user["ghost"].members == ("nobody", "nobody~unproven")
    assert not by_user["u0"].unproven
    for user_id, theirs in groups.items():
        assert by_user[user_id].state == history.visitor_state(
            user_id, history.in_order_of_arrival(theirs)
        )
    assert {item.item_id: sum(item.state.counts.values()) for item in items} == {
        f"i{i}": sum(n % 7 == i for n in range(60)) for i in range(7)
    }
    assert sum(len(item.state.neighbours) for item in items) > 0


def test_a_backfill_replaces_an_earlier_one_as_a_whole(
    tmp_path: Path, lake_settings: LakeSettings
) -> None:
    lake = Lake(lake_settings, "shop")
    write(lake, [placed(n, START + n) for n in range(3)], random.Random(1))
    assert len(backfilled(lake, tmp_path)) == 3
    broken_off = TrainingFiles(tmp_path / "rows")
    assert len(list((tmp_path / "rows").glob("*.parquet"))) == 1, (
        "the earlier rows stay until the new ones are complete"
    )
    assert broken_off.writing.exists()
    assert len(backfilled(lake, tmp_path)) == 3
    assert json.loads((tmp_path / "rows" / MANIFEST).read_text()) == {"rows": 3}
    assert not broken_off.writing.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds something else"):
        TrainingFiles(tmp_path / "rows")


def test_an_empty_lake_gives_no_rows(tmp_path: Path, lake_settings: LakeSettings) -> None:
    assert backfilled(Lake(lake_settings, "shop"), tmp_path) == []
