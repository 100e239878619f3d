"""The shop of the living simulator: shoppers with latent tastes, and what they do with a list.

Pure functions of a seed. A shopper looks at a place of a list with a probability that falls with
the place, and clicks what was looked at with a probability that taste gives: the examination
hypothesis, N. Craswell et al., "An experimental comparison of click position-bias models", WSDM
2008. Clicks lead to carts, and carts to purchases. So the true click-through of each list is known,
for whoever judges an estimate of it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from slipstream.datasets.simulated_catalogue import (
    Catalogue,
    Flags,
    Floats,
    Ints,
    item_table,
    make_catalogue,
)

CURRENCY: Final = "EUR"
# Longest list that a shopper looks at.
MOST_SHOWN: Final = 100
# Numbers that the streams of chance begin with, after the seed.
_SHOP, _VISITS, _REACTIONS, _ESTIMATES = range(4)
UNKNOWN: Final = -1
# Shoppers of the sample that gives the click-through of best and random lists.
_SAMPLED: Final = 500


@dataclass(frozen=True)
class Habits:
    """The rates of shoppers' behaviour: probabilities, unless a comment says otherwise."""

    # Exponent by which looks fall with the place: the k-th has k to the power of minus this.
    position_bias: float = 0.7
    # Clicks on an item of each favourite category that was looked at, the strongest one first,
    # where the item appeals most and costs what the shopper likes to pay.
    favourites: tuple[float, ...] = (0.28, 0.2, 0.14)
    # The same of any other category.
    indifference: float = 0.02
    # Views of items that the shopper found without a list, after each list: the mean number.
    found: float = 1.0
    # Views and clicks that a cart follows, and carts that a purchase follows.
    cart: float = 0.15
    checkout: float = 0.5
    # Lists of a visit: the mean number.
    lists: float = 2.0
    # Shoppers who have an account, visits that log in to it, and visits on a new device.
    account: float = 0.7
    login: float = 0.3
    new_device: float = 0.1


class Shelves(NamedTuple):
    """Items by category, in arrays as of `Catalogue`."""

    category: Ints
    first_item: Ints
    price: Floats
    dearness: Floats


@dataclass(frozen=True)
class LivingShop:
    """The catalogue and the shoppers' tastes, before a shift and after it.

    `before` and `after` are shoppers x categories: the click probability of an item of the category
    that was looked at, if its appeal is 1 and its price as the shopper likes it.
    """

    seed: int
    habits: Habits
    catalogue: Catalogue | Shelves
    # `item_id` and attributes, as ingestion takes them.
    items: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, int]
    # How much an item appeals to everyone: from .4 to 1 before a shift, from .1 to 1.3 after it.
    appeal: Floats
    appeal_after: Floats
    before: Floats
    after: Floats
    # How dear an item each shopper likes, in standard deviations of a category's prices.
    purse: Floats
    account: Flags
    # Cumulative shares of the shoppers in all visits.
    activity: Floats

    @property
    def shoppers(self) -> int:
        return len(self.purse)

    def tastes(self, *, shifted: bool) -> Floats:
        return self.after if shifted else self.before

    def appeals(self, *, shifted: bool) -> Floats:
        return self.appeal_after if shifted else self.appeal

    def attraction(self, shopper: int | Ints, items: Ints, *, shifted: bool) -> Floats:
        """The click probability of each item that the shopper looks at; 0 of unknown items.

        Arrays of both are broadcast.
        """
        liking = self.tastes(shifted=shifted)[shopper, self.catalogue.category[items]]
        appeal = self.appeals(shifted=shifted)[items]
        attraction: Floats = liking * appeal * self.fit(shopper, items)
        return np.where(items == UNKNOWN, 0.0, attraction)

    def fit(self, shopper: int | Ints, items: Ints) -> Floats:
        """How well the price of each item suits the shopper, from 0 to 1."""
        distance = self.catalogue.dearness[items] - self.purse[shopper]
        fit: Floats = np.exp(-(distance**2) / 8)
        return fit


def examination(habits: Habits, places: int) -> Floats:
    """The probability that each place of a list is looked at; the first one always is."""
    looks: Floats = np.arange(1, places + 1, dtype=np.float64) ** -habits.position_bias
    return looks


def make_shop(seed: int, shoppers: int, items: int, habits: Habits = Habits()) -> LivingShop:
    """Draw a shop. The same arguments give the same shop.

    A shift gives every shopper other favourites, turns around which categories are popular, and
    draws again what appeals in each, with greater differences. New histories tell of the first;
    only a model that learns from them knows the rest.
    """
    rng = np.random.default_rng((seed, _SHOP))
    catalogue = make_catalogue(rng, items, 1, 1.0)
    item_ids = [f"sim-{number}" for number in range(items)]
    rows = item_table(catalogue, pa.array(item_ids)).to_pylist()
    priced = [row | {"currency": CURRENCY} for row in rows]
    return visited_by(rng, seed, shoppers, catalogue, priced, habits)


def shop_of(
    items: Sequence[Mapping[str, Any]], seed: int, shoppers: int, habits: Habits = Habits()
) -> LivingShop:
    """A shop with these items. The same arguments give the same shop.

    An item's category is the last of its `categories`; larger ones are liked by more shoppers. Of
    an item without a `price` the price is 0, and neither dear nor cheap.
    """
    kinds = [(row.get("categories") or [""])[-1] for row in items]
    sizes = Counter(kinds)
    order = sorted(range(len(items)), key=lambda row: (-sizes[kinds[row]], kinds[row]))
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds[k] for k in order))}
    category = np.array([numbers[kinds[row]] for row in order])
    first_item = np.searchsorted(category, np.arange(len(numbers) + 1))
    rows = [{k: v for k, v in items[row].items() if v is not None} for row in order]
    price = np.array([float(row.get("price", 0.0)) for row in rows])
    dearness = np.zeros(len(rows))
    for begin, end in pairwise(first_item.tolist()):
        logs = np.log(np.maximum(price[begin:end], 0.01))
        dearness[begin:end] = (logs - logs.mean()) / (logs.std() or 1.0)
    shelves = Shelves(category, first_item, price, dearness)
    return visited_by(np.random.default_rng((seed, _SHOP)), seed, shoppers, shelves, rows, habits)


def visited_by(
    rng: Generator,
    seed: int,
    shoppers: int,
    catalogue: Catalogue | Shelves,
    items: Sequence[Mapping[str, Any]],
    habits: Habits,
) -> LivingShop:
    """A shop with a catalogue, and shoppers who are drawn for it."""
    popularity: Floats = np.arange(2, len(catalogue.first_item) + 1, dtype=np.float64) ** -0.7
    activity = np.cumsum(np.exp(rng.normal(0, 1, shoppers)))
    return LivingShop(
        seed=seed,
        habits=habits,
        catalogue=catalogue,
        items=items,
        numbers={str(item["item_id"]): number for number, item in enumerate(items)},
        appeal=rng.uniform(0.4, 1, len(catalogue.price)),
        before=_tastes(rng, shoppers, popularity, habits),
        after=_tastes(rng, shoppers, popularity[::-1], habits),
        purse=rng.normal(0, 1, shoppers),
        account=rng.random(shoppers) < habits.account,
        activity=activity / activity[-1],
        # Drawn last, so that it changes nothing of the shop before a shift.
        appeal_after=rng.uniform(0.1, 1.3, len(catalogue.price)),
    )


def _tastes(rng: Generator, shoppers: int, popularity: Floats, habits: Habits) -> Floats:
    """Favourites of each shopper, drawn without repetition by the popularity of categories."""
    keys = np.log(popularity) + rng.gumbel(size=(shoppers, len(popularity)))
    count = min(len(habits.favourites), len(popularity))
    favourites = np.argsort(-keys, axis=1)[:, :count]
    tastes = np.full(keys.shape, habits.indifference)
    np.put_along_axis(tastes, favourites, np.array([habits.favourites[:count]]), axis=1)
    return tastes


@dataclass(frozen=True)
class Visit:
    """A visit of a shopper on a device, of `lists` lists.

    The shopper is logged in from the list `logged_in_from` on, 0 for all of them; None for none.
    `logs_in` says that the login is part of this visit.
    """

    number: int
    shopper: int
    anonymous_id: str
    account_id: str
    lists: int
    logged_in_from: int | None
    logs_in: bool

    def user_id(self, place: int) -> str | None:
        """The id of the account, where the shopper is logged in at this list."""
        since = self.logged_in_from
        return self.account_id if since is not None and place >= since else None


def visits(shop: LivingShop) -> Iterator[Visit]:
    """The visits, in their order, without end."""
    rng, habits = np.random.default_rng((shop.seed, _VISITS)), shop.habits
    devices: dict[int, int] = {}
    logged_in: set[int] = set()
    number = 0
    while True:
        who, new, login, when = rng.random(4).tolist()
        lists = int(rng.geometric(1 / habits.lists))
        shopper = int(np.searchsorted(shop.activity, who, side="right"))
        if shopper not in devices or new < habits.new_device:
            devices[shopper] = devices.get(shopper, -1) + 1
            logged_in.discard(shopper)
        there = shopper in logged_in
        logs_in = not there and bool(shop.account[shopper]) and login < habits.login
        yield Visit(
            number=number,
            shopper=shopper,
            anonymous_id=f"device-{shopper}-{devices[shopper]}",
            account_id=f"shopper-{shopper}",
            lists=lists,
            logged_in_from=0 if there else int(when * lists) if logs_in else None,
            logs_in=logs_in,
        )
        if logs_in:
            logged_in.add(shopper)
        number += 1


@dataclass(frozen=True)
class Deed:
    """A view or click of an item, and what followed: `position` is None of one found otherwise."""

    item_id: str
    price: float
    position: int | None
    carted: bool
    bought: bool


@dataclass(frozen=True)
class Reaction:
    """A shopper's deeds with one list, and its true click probabilities.

    `probability` is that of at least one click, `expected_clicks` the sum over places.
    """

    deeds: Sequence[Deed]
    probability: float
    expected_clicks: float

    @property
    def clicks(self) -> int:
        return sum(deed.position is not None for deed in self.deeds)


def react(
    shop: LivingShop, visit: Visit, place: int, shown: Sequence[str], *, shifted: bool
) -> Reaction:
    """What the shopper does with the list at `place` of the visit.

    Chance depends on seed, visit and place alone: another list at the same place meets the same
    draws. Places count from 0; at most `MOST_SHOWN` items are shown.
    """
    rng = np.random.default_rng((shop.seed, _REACTIONS, visit.number, place))
    draws = rng.random((4, MOST_SHOWN))[:, : len(shown)]
    items = np.array([shop.numbers.get(item_id, UNKNOWN) for item_id in shown], np.int64)
    looks = examination(shop.habits, len(shown))
    attraction = shop.attraction(visit.shopper, items, shifted=shifted)
    clicked = np.flatnonzero((draws[0] < looks) & (draws[1] < attraction))
    deeds = [
        _deed(shop, visit.shopper, int(items[k]), int(k), *draws[2:, k].tolist()) for k in clicked
    ]
    for item in _found(shop, rng, visit.shopper, shifted=shifted):
        deeds.append(_deed(shop, visit.shopper, item, None, *rng.random(2).tolist()))
    return Reaction(
        deeds,
        probability=float(1 - np.prod(1 - looks * attraction)),
        expected_clicks=float(looks @ attraction),
    )


def _found(shop: LivingShop, rng: Generator, shopper: int, *, shifted: bool) -> list[int]:
    """Items that the shopper comes upon without a list: of a category by taste, then by liking."""
    tastes, catalogue = shop.tastes(shifted=shifted)[shopper], shop.catalogue
    found = []
    for category in rng.choice(
        len(tastes), rng.poisson(shop.habits.found), p=tastes / tastes.sum()
    ).tolist():
        offered = np.arange(catalogue.first_item[category], catalogue.first_item[category + 1])
        liking = shop.appeals(shifted=shifted)[offered] * shop.fit(shopper, offered)
        found.append(int(rng.choice(offered, p=liking / liking.sum())))
    return found


def _deed(
    shop: LivingShop, shopper: int, item: int, position: int | None, cart: float, buy: float
) -> Deed:
    fit = float(shop.fit(shopper, np.array([item]))[0])
    carted = cart < shop.habits.cart * fit
    price = float(shop.catalogue.price[item])
    bought = carted and buy < shop.habits.checkout
    return Deed(str(shop.items[item]["item_id"]), price, position, carted, bought)


def true_click_through(shop: LivingShop, places: int, *, shifted: bool) -> dict[str, float]:
    """The true share of lists with a click, over the visits of up to 500 shoppers.

    Returns:
        `best`: where every list has the items that its shopper likes most; `random`: where chance
        fills it; `popular`: where everyone gets the items that please all together most.
    """
    rng = np.random.default_rng((shop.seed, _ESTIMATES))
    shares = np.diff(shop.activity, prepend=0.0)
    sampled = rng.permutation(shop.shoppers)[:_SAMPLED]
    weights, every = shares[sampled] / shares[sampled].sum(), np.arange(len(shop.items))
    attraction = np.array(
        [shop.attraction(shopper, every, shifted=shifted) for shopper in sampled.tolist()]
    )
    places = min(places, len(every))
    looks = examination(shop.habits, places)
    popular = np.argsort(-(weights @ attraction), kind="stable")[:places]
    lists = {
        "best": -np.sort(-attraction, axis=1)[:, :places],
        "random": rng.permuted(attraction, axis=1)[:, :places],
        "popular": attraction[:, popular],
    }
    return {
        name: float(weights @ (1 - np.prod(1 - looks * of, axis=1))) for name, of in lists.items()
    }
