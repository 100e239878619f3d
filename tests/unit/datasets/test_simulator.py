from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from slipstream.contracts.progress import ProgressStep
from slipstream.contracts.vocabulary import CART, IMPRESSION, PURCHASE, VIEW
from slipstream.datasets import simulator
from slipstream.datasets.interactions import read_interactions, read_items
from slipstream.datasets.living_shop import Habits, examination
from slipstream.datasets.simulator import LENGTH, Simulation, simulate

SHOP = Simulation(visitors=4_000, items=900, events=40_000, seed=3, days=30)
SESSION_ENDS = 30 * 60_000


class Shop:
    """What was written, as arrays: an entry for each event, and `category` and `price` one for each
    item.
    """

    def __init__(self, folder: Path) -> None:
        self.events = read_interactions(folder / "interactions.parquet")
        self.items = read_items(folder / "items.parquet")
        self.user, self.item = _numbers(self.events["user_id"]), _numbers(self.events["item_id"])
        self.time = self.events["timestamp"].to_numpy()
        self.type = self.events["event_type"].to_numpy()
        path = np.array(self.items["categories"].to_pylist())
        self.category = np.unique(path[:, 1], return_inverse=True)[1]
        self.price = self.items["price"].to_numpy()
        self.follows = self.user[1:] == self.user[:-1]
        self.in_visit = self.follows & (np.diff(self.time) <= SESSION_ENDS)


def _numbers(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.array([int(name[1:]) for name in ids.to_pylist()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder, SHOP)
    return folder


@pytest.fixture(scope="module")
def shop(folder: Path) -> Shop:
    return Shop(folder)


def test_files_have_what_was_asked_for(shop: Shop) -> None:
    assert shop.events.num_rows == SHOP.events
    assert len(np.unique(shop.user)) == SHOP.visitors
    assert shop.items.num_rows == SHOP.items == len(np.unique(shop.items["title"].to_pylist()))
    assert shop.events.schema.names == ["user_id", "item_id", "event_type", "timestamp", "value"]
    assert set(shop.item) <= set(_numbers(shop.items["item_id"]))


def test_same_seed_gives_the_same_files_and_another_seed_others(
    folder: Path, tmp_path: Path
) -> None:
    simulate(tmp_path / "same", SHOP)
    simulate(tmp_path / "other", replace(SHOP, seed=4))
    for name in ("interactions.parquet", "items.parquet"):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
        assert not pq.read_table(tmp_path / "other" / name).equals(pq.read_table(folder / name))


def test_row_groups_are_portions_of_visitors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "_PORTION", 5_000)
    told: list[tuple[int, int]] = []
    simulate(tmp_path, SHOP, progress=lambda step: told.append((step.done, step.total)))
    portions = pq.ParquetFile(tmp_path / "interactions.parquet")
    rows = [
        portions.metadata.row_group(number).num_rows for number in range(portions.num_row_groups)
    ]
    assert told == [(done, SHOP.events) for done in np.cumsum(rows)]
    assert told[-1][0] == SHOP.events and len(rows) == 8 and max(rows) < 7_000
    assert len(np.unique(_numbers(portions.read()["user_id"]))) == SHOP.visitors


def test_events_of_a_visitor_are_in_order_and_visits_apart(shop: Shop) -> None:
    assert (np.diff(shop.user) >= 0).all()
    assert np.diff(shop.time)[shop.follows].min() >= 1_000
    assert shop.time.min() >= SHOP.start
    assert shop.time.max() < SHOP.start + (SHOP.days + 1) * 86_400_000


def test_activity_is_unequal_and_many_come_once(shop: Shop) -> None:
    counts = np.bincount(shop.user)
    assert counts.max() > 20 * counts.mean() and np.median(counts) < 0.7 * counts.mean()
    visits = 1 + np.bincount(shop.user[1:][shop.follows & ~shop.in_visit], minlength=SHOP.visitors)
    assert 0.4 < (visits == 1).mean() < 0.8


def test_popularity_is_heavy_tailed_and_items_appear_over_time(shop: Shop) -> None:
    seen = np.sort(np.bincount(shop.item, minlength=SHOP.items))[::-1]
    assert seen[:9].sum() / SHOP.events > 0.08  # a hundredth of the items
    assert seen[:90].sum() / SHOP.events > 0.35
    first = np.full(SHOP.items, np.iinfo(np.int64).max)
    np.minimum.at(first, shop.item, shop.time)
    late = first > SHOP.start + SHOP.days * 43_200_000
    assert 0.08 < late.mean() < 0.3


def test_visitors_have_favourite_categories_and_tastes_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often visits of the last third begin in a category of the visitor's first visit, against
    any two visits.
    """
    returns = []
    for drift in (0.0, 1.0):
        monkeypatch.setattr(simulator, "_DRIFT", drift)
        simulate(tmp_path / str(drift), SHOP)
        shop = Shop(tmp_path / str(drift))
        category = shop.category[shop.item]
        assert (category[1:] == category[:-1])[shop.in_visit].mean() > 0.6
        entries = np.flatnonzero(np.concatenate(([True], ~shop.in_visit)))
        very_first = np.searchsorted(shop.user, shop.user[entries])
        late = (shop.time[entries] > SHOP.start + 20 * 86_400_000) & (
            shop.time[very_first] < SHOP.start + 10 * 86_400_000
        )
        returns.append((category[entries] == category[very_first])[late].mean())
        by_chance = ((np.bincount(category) / len(category)) ** 2).sum()
    assert returns[0] > 2 * by_chance and returns[1] < 0.7 * returns[0]


def test_views_are_of_what_the_taste_of_the_shoppers_says(tmp_path: Path) -> None:
    """Prices within a category differ from visitor to visitor more than by chance."""
    simulate(tmp_path, replace(SHOP, habits=Habits(favourites=(0.5,), indifference=0.0)))
    shop = Shop(tmp_path)
    entries = np.flatnonzero(shop.type == VIEW)
    price = np.log(shop.price[shop.item[entries]])
    price -= (np.bincount(shop.category, np.log(shop.price)) / np.bincount(shop.category))[
        shop.category[shop.item[entries]]
    ]
    user = shop.user[entries]
    means = np.bincount(user, price) / np.maximum(np.bincount(user), 1)
    busy = np.bincount(user) > 30
    shuffled = np.random.default_rng(0).permutation(price)
    by_chance = np.bincount(user, shuffled) / np.maximum(np.bincount(user), 1)
    assert busy.sum() > 50 and means[busy].std() > 1.3 * by_chance[busy].std()


def test_carts_and_purchases_follow_views_and_have_the_price_as_value(shop: Shop) -> None:
    shares = {kind: (shop.type == kind).mean() for kind in (VIEW, CART, PURCHASE)}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.03 < shares[CART] < 0.12 and 0.2 * shares[CART] < shares[PURCHASE] < 0.6 * shares[CART]
    carts = np.flatnonzero(shop.type == CART)
    assert (shop.item[carts - 1] == shop.item[carts]).all() and (shop.type[carts - 1] == VIEW).all()
    bought = set(
        zip(shop.user[shop.type == PURCHASE], shop.item[shop.type == PURCHASE], strict=True)
    )
    assert bought <= set(zip(shop.user[carts], shop.item[carts], strict=True))
    value = shop.events["value"].to_numpy()
    assert np.isnan(value[shop.type == VIEW]).all()
    assert (value[carts] == shop.price[shop.item[carts]]).all()
    bought_at = np.flatnonzero(shop.type == PURCHASE)
    assert (value[bought_at] == shop.price[shop.item[bought_at]]).all()


def test_days_and_weeks_have_a_rhythm(shop: Shop) -> None:
    hours = np.bincount(shop.time // 3_600_000 % 24)
    assert hours[20] > 4 * hours[3]
    weekdays = np.bincount(
        (shop.time[shop.time < SHOP.start + 28 * 86_400_000] - SHOP.start) // 86_400_000 % 7
    )
    assert weekdays[5:].min() > weekdays[:5].max()


def test_impressions_are_lists_before_views_whose_places_are_looked_at_unequally(
    tmp_path: Path, shop: Shop
) -> None:
    written = simulate(tmp_path, replace(SHOP, impressions=True))
    rows = read_interactions(written.interactions)
    acted = rows.filter(pc.not_equal(rows["event_type"], IMPRESSION))
    assert acted.select(shop.events.schema.names).equals(shop.events)
    assert written.by_type[IMPRESSION] == rows.num_rows - SHOP.events

    lists: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        if row["recommendation_id"]:
            lists.setdefault(row["recommendation_id"], []).append(row)
    assert 0.2 * SHOP.events < len(lists) < 0.5 * SHOP.events
    for *shown, view in lists.values():
        assert [row["position"] for row in shown] == list(range(len(shown)))
        assert len({row["item_id"] for row in shown}) == len(shown) <= LENGTH
        assert {(row["user_id"], row["event_type"]) for row in shown} == {
            (view["user_id"], IMPRESSION)
        }
        assert view["event_type"] == VIEW and shown[view["position"]]["item_id"] == view["item_id"]
        assert {view["timestamp"] - row["timestamp"] for row in shown} == {500}
    whole = [view["position"] for *shown, view in lists.values() if len(shown) == LENGTH]
    clicks = np.bincount(whole, minlength=LENGTH) / len(whole)
    looks = examination(Habits(), LENGTH)
    assert clicks == pytest.approx(looks / looks.sum(), abs=0.05)


@pytest.mark.parametrize("impressions", [False, True])
@pytest.mark.parametrize(
    ("visitors", "items", "events", "days"),
    [(1, 1, 1, 1), (1, 2, 50, 1), (3, 1, 40, 1), (50, 7, 50, 2)],
)
def test_the_smallest_shops_work(
    tmp_path: Path, visitors: int, items: int, events: int, days: int, impressions: bool
) -> None:
    written = simulate(
        tmp_path, Simulation(visitors, items, events, days=days, impressions=impressions)
    )
    assert written.by_type.total() == read_interactions(written.interactions).num_rows
    assert written.by_type.total() - written.by_type[IMPRESSION] == events
    assert read_items(written.items).num_rows == items


@pytest.mark.parametrize(
    ("simulation", "complaint"),
    [
        (partial(Simulation, 0, 5, 5), "visitors must be at least 1, not 0"),
        (partial(Simulation, 10, 5, 9), "9 events are too few for 10 visitors"),
        (
            partial(Simulation, 10, 5, 1001, days=2),
            "take more visitors or days; 50 events a visitor and day is the most",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    simulation: partial[Simulation], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        simulation()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_text("mine")
    with pytest.raises(FileExistsError, match=r"items\.parquet is there already"):
        simulate(tmp_path, SHOP)
    assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]
    assert (tmp_path / "items.parquet").read_text() == "mine"


def test_an_interrupt_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: ProgressStep) -> None:
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "interactions.parquet.part",
            "items.parquet.part",
        ]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path, SHOP, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_garments_have_colours_sizes_and_materials_and_the_same_events(tmp_path: Path) -> None:
    plain, dressed = tmp_path / "plain", tmp_path / "dressed"
    small = Simulation(visitors=50, items=300, events=500, days=10)
    simulate(plain, small)
    simulate(dressed, replace(small, garments=True))
    events = "interactions.parquet"
    assert pq.read_table(plain / events).equals(pq.read_table(dressed / events))
    items = read_items(dressed / "items.parquet").to_pylist()
    assert len({item["title"] for item in items}) == len(items)
    assert len({item["size"] for item in items}) == 3
    assert len({item["color"] for item in items}) == 12
    assert len({item["material"] for item in items}) == 8
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        groups.setdefault(item["item_group_id"], []).append(item)
        assert all(item[name] in item["title"] for name in ("brand", "color", "material", "size"))
        assert item["categories"][1] in item["title"]
    for group in groups.values():
        assert len({item["size"] for item in group}) == len(group) <= 3
        assert len({(item["material"], *item["categories"]) for item in group}) == 1
    assert 100 < len(groups) < 200
