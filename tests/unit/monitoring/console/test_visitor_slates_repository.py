"""A visitor's slates from the lake, as far back as there is time to look."""

from itertools import count
from pathlib import Path
from typing import cast

import pytest

from services.monitoring.console.visitor_slates_repository import VisitorSlates
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.stores.lake_reader import LakeReader
from tests.unit.monitoring.counting.shop_lake import T0, Shop, event, slate


@pytest.fixture
def shop(migrated: Path, tmp_path: Path) -> Shop:
    return Shop(migrated, tmp_path)


def reader(shop: Shop, seconds: float = 0.0) -> VisitorSlates:
    """A reader on a machine that takes so many seconds for each look at the clock."""
    passed = count()
    lake = cast(LakeReader, shop.lake)
    return VisitorSlates(lake, shop.engine, lambda: shop.now, lambda: seconds * next(passed))


def test_the_newest_slates_come_first_with_places_and_what_was_clicked(shop: Shop) -> None:
    slates = [slate("ada", n, "ab", number=n) for n in range(3)]
    newest = slates[2]["recommendation_id"]
    unseen = slate("ada", 4, "ab", number=4, purpose="shadow")
    clicks = [
        event("e1", "click", "ada", "b", 10, recommendation_id=newest),
        event("e2", "purchase", "ada", "b", 9, recommendation_id=newest),
        event("e3", "click", "bob", "b", 9, recommendation_id=newest),
    ]
    shop.lake.append([*slates, unseen, slate("bob", 9, "ab")], clicks)
    shop.counter.step()
    found = reader(shop).newest("ada", 2)
    assert [it.recommendation_id for it in found.items] == [newest, slates[1]["recommendation_id"]]
    first, second = found.items
    assert [(it.item_id, it.source, it.position) for it in first.items] == [
        ("a", "network", 0),
        ("b", "network", 1),
    ]
    assert [it.clicked_at for it in first.items] == [None, T0 + 9]
    assert [it.clicked_at for it in second.items] == [None, None]
    assert (first.at, first.placement, first.model_version) == (T0 + 2, "home", "m1")
    assert (first.experiment, first.variant) == ("", "")


def test_three_days_are_looked_at_and_without_a_lake_there_are_none(shop: Shop) -> None:
    assert reader(shop).newest("ada", 2).items == []
    at = shop.now - T0
    ago = [at - 3 * DAY_MS - 1, at - 3 * DAY_MS + 1, at - 5 * HOUR_MS, at]
    shop.lake.append([slate("ada", each, "a", number=n) for n, each in enumerate(ago)])
    found = reader(shop).newest("ada", 9)
    assert [it.at for it in found.items] == [T0 + each for each in ago[:0:-1]]
    assert found.since == shop.now - 3 * DAY_MS
    assert reader(shop).newest("ada", 1).since == shop.now + 1 - HOUR_MS


def test_what_took_too_long_is_left_out_and_said(shop: Shop) -> None:
    ago = [0, 90, 300]
    shop.lake.append([slate("ada", shop.now - T0 - 60_000 * each, "a") for each in ago])
    # The deadline passes while the second and third hours are read.
    found = reader(shop, 1.6).newest("ada", 9)
    assert [it.at for it in found.items] == [shop.now]
    assert found.since == shop.now + 1 - HOUR_MS
