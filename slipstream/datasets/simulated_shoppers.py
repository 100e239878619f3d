"""The shoppers of the simulated shop: their tastes, and their steps through a visit."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from slipstream.datasets.simulated_catalogue import COMPLEMENTS, Catalogue, Flags, Floats, Ints
from slipstream.datasets.simulated_visits import NONE, Behaviour, Events, Kind, Visits

_ALIKE, _COMPLEMENT, _BACK, _BROWSE = range(4)
_SEGMENTS = 24
# Share of looks into each of a visitor's favourite categories.
_FAVOURITES = (0.55, 0.3, 0.15)


@dataclass(frozen=True)
class Shoppers:
    """The tastes of visitors."""

    catalogue: Catalogue
    behaviour: Behaviour
    # segments x brands: visitors of a segment like the same brands.
    likings: Floats
    segment: Ints
    # The dearness that each visitor likes best.
    budget: Floats
    # visitors x 2 (at first, later) x categories.
    favourites: Ints

    @classmethod
    def of(
        cls, rng: Generator, count: int, catalogue: Catalogue, behaviour: Behaviour, likings: Floats
    ) -> "Shoppers":
        """Draw the tastes of `count` visitors; all share `likings`."""
        shape = (count, 2, len(_FAVOURITES))
        home = np.broadcast_to(
            catalogue.department[catalogue.any_category(rng, (count, 1, 1))], shape
        )
        loyal = rng.random(shape) < behaviour.loyalty
        favourites = np.where(
            loyal, catalogue.category_in(rng, home), catalogue.any_category(rng, shape)
        )
        return cls(
            catalogue,
            behaviour,
            likings,
            rng.integers(0, len(likings), count),
            rng.normal(0, 1, count),
            favourites,
        )

    def category(self, rng: Generator, visitor: Ints, moment: Ints) -> Ints:
        """A category that each visitor turns to."""
        later = rng.random(len(visitor)) < self.behaviour.drift * moment / self.catalogue.horizon
        which = rng.choice(len(_FAVOURITES), len(visitor), p=_FAVOURITES)
        favourite = self.favourites[visitor, later.astype(np.int64), which]
        explores = rng.random(len(visitor)) < self.behaviour.exploration
        return np.where(explores, self.catalogue.any_category(rng, visitor.shape), favourite)

    def choice(self, rng: Generator, visitor: Ints, category: Ints, moment: Ints) -> Ints:
        """An item of each category: the better liked of two draws.

        Both are popular items, or one is popular and one new.
        """
        begin, end = self.catalogue.offered(category, moment)
        one, other = (
            self.catalogue.popular(rng, begin, end),
            self.catalogue.popular(rng, begin, end),
        )
        other = np.where(
            rng.random(len(other)) < self.behaviour.novelty,
            self.catalogue.newest(rng, begin, end),
            other,
        )
        better = (
            self._liking(visitor, one) - self._liking(visitor, other) + rng.logistic(0, 1, len(one))
            > 0
        )
        return np.where(better, one, other)

    def _liking(self, visitor: Ints, item: Ints) -> Floats:
        brand = self.catalogue.brand[self.catalogue.collection[item]]
        misfit = np.abs(self.catalogue.dearness[item] - self.budget[visitor])
        return self.behaviour.taste * (self.likings[self.segment[visitor], brand] - misfit)

    def carts(self, rng: Generator, visitor: Ints, item: Ints) -> Flags:
        """Whether each visitor puts the item into the cart."""
        dearer = self.catalogue.dearness[item] - self.budget[visitor]
        return rng.random(len(item)) < self.behaviour.carting * np.exp(-0.3 * dearer)

    def next_view(
        self,
        rng: Generator,
        visitor: Ints,
        item: Ints,
        before: Ints,
        after_cart: Flags,
        moment: Ints,
    ) -> Ints:
        """The item that each visitor views next.

        Args:
            rng: Source of chance.
            visitor: The visitors.
            item: The item that each viewed last.
            before: The item viewed before it; at the first view of a visit the item itself.
            after_cart: Whether a cart or purchase came between.
            moment: The time of the view.
        """
        rates = np.cumsum(
            (
                self.behaviour.alike,
                self.behaviour.complement,
                self.behaviour.back,
                self.behaviour.browse,
            )
        )
        way = np.searchsorted(rates, rng.random(len(item)), side="right")
        way[after_cart & (rng.random(len(item)) < self.behaviour.after_cart)] = _COMPLEMENT
        way[(way == _BACK) & (before == item)] = _BROWSE
        following = before.copy()
        on = np.flatnonzero(way == _ALIKE)
        following[on] = self.catalogue.alike(rng, item[on], moment[on])
        on = np.flatnonzero(way == _COMPLEMENT)
        following[on] = self.catalogue.complements[item[on], rng.integers(0, COMPLEMENTS, len(on))]
        on = np.flatnonzero(way >= _BROWSE)
        turns = self.category(rng, visitor[on], moment[on])
        category = np.where(way[on] == _BROWSE, self.catalogue.category[item[on]], turns)
        following[on] = self.choice(rng, visitor[on], category, moment[on])
        return following


def brand_likings(rng: Generator, catalogue: Catalogue) -> Floats:
    """The liking of each segment of visitors for each brand, in standard deviations."""
    return rng.normal(0, 1, (_SEGMENTS, int(catalogue.brand.max()) + 1))


def browse(rng: Generator, shoppers: Shoppers, came: Visits, moments: Ints) -> Events:
    """The events of the visits, one at each of the moments; all visits advance in step."""
    catalogue, behaviour = shoppers.catalogue, shoppers.behaviour
    viewed = shoppers.choice(
        rng, came.visitor, shoppers.category(rng, came.visitor, came.begins), came.begins
    )
    resumes = (rng.random(len(viewed)) < behaviour.resumption) & (
        np.diff(came.visitor, prepend=-1) == 0
    )
    viewed = viewed[np.maximum.accumulate(np.where(resumes, 0, np.arange(len(viewed))))]
    before, in_cart, last = (
        viewed.copy(),
        np.full(len(viewed), NONE),
        np.full(len(viewed), Kind.VIEW),
    )
    item, kind = np.repeat(viewed, came.length), np.full(len(moments), Kind.VIEW)
    for step in range(1, int(came.length.max())):
        on = np.flatnonzero(came.length > step)
        buys = (in_cart[on] != NONE) & (rng.random(len(on)) < behaviour.checkout)
        carts = ~buys & (last[on] == Kind.VIEW) & shoppers.carts(rng, came.visitor[on], viewed[on])
        looks = on[~buys & ~carts]
        after_cart = last[looks] != Kind.VIEW
        following = shoppers.next_view(
            rng, came.visitor[looks], viewed[looks], before[looks], after_cart, came.begins[looks]
        )
        before[looks], viewed[looks] = viewed[looks], following
        last[on] = np.where(buys, Kind.PURCHASE, np.where(carts, Kind.CART, Kind.VIEW))
        event = came.first_event[on] + step
        item[event] = np.where(buys, in_cart[on], viewed[on])
        kind[event] = last[on]
        in_cart[on] = np.where(buys, NONE, np.where(carts, viewed[on], in_cart[on]))
    quantity = np.where(kind == Kind.PURCHASE, rng.geometric(0.9, len(kind)), 1)
    value = np.where(kind == Kind.VIEW, np.nan, np.round(catalogue.price[item] * quantity, 2))
    none = np.full(len(moments), NONE)
    return Events(np.repeat(came.visitor, came.length), item, kind, moments, value, none, none)
