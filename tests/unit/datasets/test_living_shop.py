"""Shoppers of the living shop: what chance decides repeats, and the truth is the truth."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.datasets.living_shop import (
    Habits,
    LivingShop,
    Visit,
    examination,
    make_shop,
    react,
    shop_of,
    true_click_through,
    visits,
)

SHOP = make_shop(3, 200, 120)


def visit(number: int = 0, shopper: int = 0) -> Visit:
    return Visit(number, shopper, "device-0-0", "shopper-0", 2, None, False)


def liked(shop: LivingShop, shopper: int, *, shifted: bool, places: int = 10) -> list[str]:
    """The items that the shopper likes most."""
    every = np.arange(len(shop.items))
    best = np.argsort(-shop.attraction(shopper, every, shifted=shifted))[:places]
    return [str(shop.items[item]["item_id"]) for item in best]


def clicked_share(shop: LivingShop, shown: Sequence[str], visited: int = 4_000) -> float:
    """The share of a shopper's visits with a click."""
    reactions = (react(shop, visit(n), 0, shown, shifted=False) for n in range(visited))
    return sum(reaction.clicks > 0 for reaction in reactions) / visited


def test_a_seed_gives_the_same_shop_visits_and_reactions_and_another_one_others() -> None:
    again, other = make_shop(3, 200, 120), make_shop(4, 200, 120)
    assert again.items == SHOP.items and again.items != other.items
    assert list(islice(visits(again), 300)) == list(islice(visits(SHOP), 300))
    assert list(islice(visits(other), 300)) != list(islice(visits(SHOP), 300))
    shown = liked(SHOP, 0, shifted=False)
    for number in range(20):
        first = react(SHOP, visit(number), 1, shown, shifted=False)
        assert react(again, visit(number), 1, shown, shifted=False) == first


def test_another_list_at_the_same_place_meets_the_same_draws() -> None:
    shown = liked(SHOP, 0, shifted=False)
    for number in range(100):
        whole = react(SHOP, visit(number), 0, shown, shifted=False)
        half = react(SHOP, visit(number), 0, shown[:5], shifted=False)
        clicks = [deed for deed in whole.deeds if deed.position is not None and deed.position < 5]
        assert [deed for deed in half.deeds if deed.position is not None] == clicks


def test_clicks_come_as_often_as_the_truth_says() -> None:
    shown = liked(SHOP, 0, shifted=False)
    truth = react(SHOP, visit(), 0, shown, shifted=False)
    share = clicked_share(SHOP, shown)
    assert share == pytest.approx(truth.probability, abs=4 * (0.25 / 4_000) ** 0.5)
    attraction = SHOP.attraction(
        0, np.array([SHOP.numbers[item_id] for item_id in shown]), shifted=False
    )
    assert truth.expected_clicks == pytest.approx(examination(SHOP.habits, 10) @ attraction)


def test_the_first_place_is_looked_at_most_and_unknown_items_are_never_clicked() -> None:
    looks = examination(SHOP.habits, 5)
    assert looks[0] == 1 and all(np.diff(looks) < 0)
    shown = liked(SHOP, 0, shifted=False)
    assert clicked_share(SHOP, ["kettle"]) == 0
    assert react(SHOP, visit(), 0, ["kettle"], shifted=False).probability == 0
    upper, lower = shown, [*shown[1:], shown[0]]
    probability = [
        react(SHOP, visit(), 0, order, shifted=False).probability for order in (upper, lower)
    ]
    assert probability[0] > probability[1]
    nothing = react(SHOP, visit(), 0, [], shifted=False)
    assert (nothing.clicks, nothing.probability) == (0, 0)


def test_a_shift_makes_the_best_lists_of_before_poor() -> None:
    before, after = (true_click_through(SHOP, 10, shifted=shifted) for shifted in (False, True))
    for truth in (before, after):
        assert truth["best"] > 1.5 * truth["popular"] > 1.5 * truth["random"] > 0
    stale = [
        react(
            SHOP, visit(shopper=who), 0, liked(SHOP, who, shifted=False), shifted=True
        ).probability
        for who in range(200)
    ]
    assert np.mean(stale) < 0.5 * after["best"]


def test_after_a_shift_new_histories_alone_do_not_tell_what_appeals() -> None:
    every = np.arange(len(SHOP.items))

    def rate(shopper: int, appeal: NDArray[np.float64]) -> float:
        """True click-through of the list by the new favourites and this appeal."""
        liking = SHOP.after[shopper, SHOP.catalogue.category] * SHOP.fit(shopper, every) * appeal
        shown = [f"sim-{item}" for item in np.argsort(-liking)[:10].tolist()]
        return react(SHOP, visit(shopper=shopper), 0, shown, shifted=True).probability

    old, new = (
        np.mean([rate(who, appeal) for who in range(200)])
        for appeal in (SHOP.appeals(shifted=False), SHOP.appeals(shifted=True))
    )
    assert old < 0.95 * new


def test_purchases_follow_carts_and_carts_follow_clicks_or_views() -> None:
    shown = liked(SHOP, 0, shifted=False)
    deeds = [
        deed
        for number in range(3_000)
        for deed in react(SHOP, visit(number), 0, shown, shifted=False).deeds
    ]
    assert all(deed.carted or not deed.bought for deed in deeds)
    assert sum(deed.bought for deed in deeds) > 20
    prices = {item["item_id"]: item["price"] for item in SHOP.items}
    assert all(deed.price == prices[deed.item_id] for deed in deeds)


def test_an_account_logs_in_once_on_a_device_and_stays_logged_in() -> None:
    made = list(islice(visits(SHOP), 3_000))
    logged_in: dict[str, bool] = {}
    for each in made:
        known = logged_in.setdefault(each.anonymous_id, False)
        assert (each.logged_in_from == 0 and not each.logs_in) == known
        if each.logs_in:
            assert each.logged_in_from is not None and 0 <= each.logged_in_from < each.lists
            assert SHOP.account[each.shopper]
            logged_in[each.anonymous_id] = True
    assert 0.05 < sum(each.logs_in for each in made) / len(made) < 0.4
    assert len({each.anonymous_id for each in made}) > len({each.shopper for each in made})
    before, since = Visit(0, 1, "d", "u", 3, 1, True), Visit(0, 1, "d", "u", 3, None, False)
    assert [before.user_id(place) for place in range(3)] == [None, "u", "u"]
    assert since.user_id(2) is None


def test_a_shop_of_one_item_and_one_shopper_has_visits_too() -> None:
    tiny = make_shop(0, 1, 1, Habits(found=2.0))
    first = next(visits(tiny))
    assert react(tiny, first, 0, ["sim-0"], shifted=True).probability > 0
    assert set(true_click_through(tiny, 10, shifted=False)) == {"best", "random", "popular"}


FILMS = [
    {"item_id": "heat", "title": "Heat", "categories": ["Drama", "Crime"]},
    {"item_id": "babe", "title": "Babe", "categories": ["Comedy"]},
    {"item_id": "ronin", "title": "Ronin", "categories": ["Crime"], "brand": None},
    {"item_id": "odd", "title": "Odd", "categories": None},
]
CUPS = [
    {"item_id": f"cup-{price}", "categories": ["cups"], "price": price} for price in (1.0, 10.0)
]


def test_shoppers_of_given_items_like_their_categories_and_prices() -> None:
    films = shop_of(FILMS, 0, 40, Habits(found=3.0))
    ids = [item["item_id"] for item in films.items]
    assert ids[:2] == ["heat", "ronin"] and set(ids) == {film["item_id"] for film in FILMS}
    assert films.catalogue.category.tolist()[:2] == [0, 0], "the largest one comes first"
    assert films.catalogue.first_item.tolist()[:2] == [0, 2]
    assert "brand" not in films.items[1]
    deeds = [
        deed
        for number in range(300)
        for deed in react(films, visit(number), 0, ["heat", "unheard-of"], shifted=False).deeds
    ]
    assert {deed.item_id for deed in deeds} > {"heat"} and "unheard-of" not in ids
    assert all(deed.price == 0 for deed in deeds)
    assert set(films.catalogue.dearness.tolist()) == {0.0}
    cups = shop_of(CUPS, 0, 40)
    assert cups.catalogue.dearness.tolist() == [-1.0, 1.0]
    frugal = int(np.argmin(cups.purse))
    assert (np.diff(cups.fit(frugal, np.array([0, 1]))) < 0).all()
    assert shop_of(CUPS, 0, 40).activity.tolist() == cups.activity.tolist()
