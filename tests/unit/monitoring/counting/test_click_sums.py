"""Clicks of a period are summed by visitor, once, when the lake has all that may change them."""

from pathlib import Path
from typing import cast

import pytest

from services.monitoring.click_trend import ClickSums
from services.monitoring.counting.click_sums import ClickPeriods
from services.monitoring.window_repository import WindowLog
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.lake_reader import LakeReader
from tests.unit.monitoring.counting.shop_lake import T0, Shop, event, slate

# T0 lies within the hour that begins so many ms earlier.
START = T0 - T0 % HOUR_MS
WINDOW_MS = 60_000


class Periods:
    """A shop with sums of an hour, of which a list may be clicked for a minute."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.windows = shop, WindowLog(shop.engine)
        lake = cast(LakeReader, shop.lake)
        periods = ClickPeriods(lake, shop.table, self.windows, HOUR_MS, WINDOW_MS)
        shop.counter._then = periods.step

    def count(self) -> dict[tuple[int, str], ClickSums]:
        self.shop.counter.step()
        return self.windows.clicks(HOUR_MS, 0)


@pytest.fixture
def periods(migrated: Path, tmp_path: Path) -> Periods:
    return Periods(Shop(migrated, tmp_path))


def test_the_model_s_lists_outside_experiments_are_summed_by_visitor(periods: Periods) -> None:
    at = START - T0 + 1_000
    shown = [
        slate("ada", at, "ab", number=0),
        slate("ada", at, "xy", number=1),
        slate("ben", at, "ab", number=2),
        slate("cleo", at, "ab", number=3, placement=None),
        slate("eve", at, "ab", number=4, experiment="e", variant="v"),
        slate("eve", at, "ab", number=5, answered_by="trending"),
        slate("eve", at, "ab", number=6, purpose="shadow"),
        # Of the next hour.
        slate("ada", at + HOUR_MS, "ab", number=7),
    ]
    named = {"recommendation_id": shown[0]["recommendation_id"]}
    clicks = [
        event("c1", "click", "ada", "a", at + 1, **named),
        event("c2", "click", "ada", "b", at + 2, **named),
        event("c3", "click", "cleo", "a", at + 3),
        event("c4", "purchase", "ben", "a", at + 3),
        # Too late for its hour.
        event(
            *("c5", "click", "ben", "a", at + HOUR_MS + WINDOW_MS),
            recommendation_id=shown[2]["recommendation_id"],
        ),
    ]
    periods.shop.lake.append([*shown, slate("fay", at + 3 * HOUR_MS, "ab")], clicks)
    found = periods.count()
    assert {key: sums for key, sums in found.items() if key[0] == START} == {
        (START, "home"): ClickSums(2, 3, 1, 5, 1, 2),
        (START, ""): ClickSums(1, 1, 1, 1, 1, 1),
    }
    assert found[START + HOUR_MS, "home"] == ClickSums(1, 1, 0, 1, 0, 0)


def test_a_period_is_summed_once_a_list_shows_that_the_lake_has_all_of_it(
    periods: Periods,
) -> None:
    end = START - T0 + HOUR_MS
    shown = slate("ada", 0, "ab")
    periods.shop.lake.append([shown, slate("bo", end + WINDOW_MS + 59_999, "ab")])
    assert (START, "home") not in periods.count()
    click = event("c", "click", "ada", "a", 5, recommendation_id=shown["recommendation_id"])
    periods.shop.lake.append([slate("bo", end + WINDOW_MS + 60_000, "ab")], [click])
    whole = periods.count()
    assert whole[START, "home"] == ClickSums(1, 1, 1, 1, 1, 1)
    # What comes later changes no sum.
    periods.shop.lake.append([slate("cy", 1, "ab")])
    assert periods.count() == whole
    # An hour before the first list was looked at, too.
    assert whole[START - HOUR_MS, ""] == ClickSums()
