"""The comparison finds what is lost, double, or not counted."""

import csv
from pathlib import Path

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.datasets.interactions import read_interactions
from slipstream.stores.lake import INTERACTIONS, Lake
from tests.compose.comparison import COLUMNS, Accepted, compare_counts, compare_lake
from tests.faults.reckoning import Findings
from tests.faults.traffic import Event, Sent
from tests.unit.stores.lake_rows import rows

HISTORY = [("u1", "i1", "view", 10), ("u1", "i2", "view", 20), ("u2", "i1", "purchase", 30)]
LIVE = Event("m1", "loner-1", "view", "i1", 40, None)
DUE = {
    "u1": {"view": 2},
    "u2": {"purchase": 1},
    "loner-1": {"view": 1},
    "i1": {"view": 2, "purchase": 1},
    "i2": {"view": 1},
}


@pytest.fixture
def accepted(tmp_path: Path) -> Accepted:
    path = tmp_path / "interactions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *HISTORY])
    return Accepted(read_interactions(path), [Sent({}, (LIVE,))], [])


def lake_of(folder: LakeSettings, *kept: tuple[str, tuple[str, str, str, int]]) -> Lake:
    lake = Lake(folder, "shop")
    for offset, (event_id, (user_id, item_id, event_type, timestamp)) in enumerate(kept):
        row = rows(
            event_id, user_id=user_id, item_id=item_id, event_type=event_type, timestamp=timestamp
        )
        lake.append(INTERACTIONS, row, {Source("interactions.v1", "topic-1", 0): offset})
    return lake


ALL = [
    ("h1", HISTORY[0]),
    ("h2", HISTORY[1]),
    ("h3", HISTORY[2]),
    ("m1", ("loner-1", "i1", "view", 40)),
]


def test_a_lake_with_each_event_once_is_exact(
    lake_settings: LakeSettings, accepted: Accepted
) -> None:
    found = Findings()
    compare_lake(found, lake_of(lake_settings, *ALL), accepted)
    assert (found.wrong, found.figures) == (
        {},
        {"events_due": 1, "rows_in_lake": 4, "distinct_ids_in_lake": 4},
    )


@pytest.mark.parametrize("event", range(len(ALL)))
def test_an_event_that_the_lake_lacks_or_has_twice_is_found(
    event: int, lake_settings: LakeSettings, tmp_path: Path, accepted: Accepted
) -> None:
    lacking, doubled = Findings(), Findings()
    compare_lake(lacking, lake_of(lake_settings, *ALL[:event], *ALL[event + 1 :]), accepted)
    assert {kind: len(instances) for kind, instances in lacking.wrong.items()} == {"lost": 1}
    compare_lake(
        doubled, lake_of(LakeSettings(uri=str(tmp_path / "doubled")), *ALL, ALL[event]), accepted
    )
    assert set(doubled.wrong) == {"double"}


def test_a_count_that_is_not_due_is_found(accepted: Accepted) -> None:
    exact, wrong = Findings(), Findings()
    compare_counts(exact, lambda _, name: DUE[name], accepted)
    assert (exact.wrong, exact.figures) == ({}, {"visitors_compared": 3, "items_compared": 2})
    compare_counts(wrong, lambda _, name: {"view": 2}, accepted)
    assert {kind: len(instances) for kind, instances in wrong.wrong.items()} == {
        "visitor's counts in Redis": 2,
        "item's counts in Redis": 2,
    }
