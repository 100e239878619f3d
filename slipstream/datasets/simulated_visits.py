"""The visitors of the simulated shop: their activity, their visits, and the lists that they saw.

Pure functions on arrays, with the source of chance as an argument. Moments are milliseconds since
the simulation's start.

A list was shown before some views. Its order is chance, and visitors look more often at upper
places. An item is clicked if its place is looked at and the item is wanted: the examination
hypothesis, N. Craswell et al., "An experimental comparison of click position-bias models", WSDM
2008. Since the order says nothing of the items, the click rate of a place is its rate of views.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.random import Generator

from slipstream.contracts.vocabulary import CART, IMPRESSION, PURCHASE, VIEW
from slipstream.datasets.simulated_catalogue import Catalogue, Flags, Floats, Ints

HOUR, DAY = 3_600_000, 86_400_000
# Events of the busiest visitors in a day, about: the day has room for their visits.
MOST_A_DAY = 100
TYPES = (VIEW, CART, PURCHASE, IMPRESSION)
NONE = -1
_MOST_A_VISIT = 50
# The least between two visits: the half hour without an event that ends a session, and a minute.
_PAUSE = 31 * 60_000
_SECONDS_BETWEEN, _SPREAD_BETWEEN, _MOST_BETWEEN = 25, 1.0, 600
_HOURS = (4, 2, 1, 1, 1, 2, 4, 7, 9, 10, 11, 11, 12, 12, 11, 11, 12, 13, 15, 18, 20, 19, 14, 8)
# From Monday, which the first day is.
_WEEKDAYS = (10, 10, 10, 10, 9, 12, 14)


class Kind(IntEnum):
    """The type of an event, as a place in `TYPES`."""

    VIEW, CART, PURCHASE, IMPRESSION = range(len(TYPES))


@dataclass(frozen=True)
class Behaviour:
    """The rates of visitors' behaviour: shares from 0 to 1, unless a comment says otherwise."""

    # Visitors who come once, whatever they do then; many others have too few events to come twice.
    once: float = 0.35
    # Inequality of the others: the standard deviation of the logarithm of their events.
    spread: float = 1.4
    # Events of a visit, on average.
    visit: float = 6.0
    # Favourite categories that are of the visitor's home department; the others are of any.
    loyalty: float = 0.75
    # Share of favourites that have given way to others by the last day.
    drift: float = 0.5
    # Turns to a category that is no favourite.
    exploration: float = 0.15
    # Factor by which liked brands and prices count against chance.
    taste: float = 0.8
    # Choices with one of the newest items among the candidates.
    novelty: float = 0.3
    # Visits that begin with the item that the one before began with.
    resumption: float = 0.2
    # Views that go on to a similar item.
    alike: float = 0.42
    # Views that go on to what goes with the item.
    complement: float = 0.08
    # Views that go back to the item before.
    back: float = 0.12
    # Views that go on to any other item of the category. The rest turn to another category.
    browse: float = 0.2
    # Views that a cart follows, where the price is as the visitor likes it; more for a lower, fewer
    # for a higher one.
    carting: float = 0.08
    # Views after a cart or a purchase that are of what goes with the item.
    after_cart: float = 0.4
    # Steps with an item in the cart that buy it.
    checkout: float = 0.16
    # Carts and purchases that are followed by the same of what goes with the item.
    together: float = 0.0


@dataclass(frozen=True)
class Visits:
    """The visits, by visitor, then time. A visit's events begin at `first_event`."""

    visitor: Ints
    begins: Ints
    first_event: Ints
    length: Ints


@dataclass(frozen=True)
class Events:
    """The events, by visitor, then time."""

    visitor: Ints
    item: Ints
    kind: Ints
    moment: Ints
    # NaN for all but carts and purchases.
    value: Floats
    # The number of the list that the item was shown in, or `NONE`.
    slate: Ints
    # The item's place in it, from 0, or `NONE`.
    position: Ints


def activity(
    rng: Generator, visitors: int, events: int, days: int, behaviour: Behaviour
) -> tuple[Ints, Flags]:
    """Draw the number of each visitor's events, and the visitors who come once.

    Args:
        rng: Source of chance.
        visitors: Number of visitors; each has an event at least.
        events: Number of all events.
        days: Length of the simulation.
        behaviour: Rates.
    """
    once = rng.random(visitors) < behaviour.once
    weight = np.where(
        once, rng.exponential(0.5, visitors), rng.lognormal(0, behaviour.spread, visitors)
    )
    until = np.cumsum(np.minimum(weight, weight.mean() * days * MOST_A_DAY * visitors / events))
    until = np.rint(until / until[-1] * (events - visitors)).astype(np.int64)
    return 1 + np.diff(until, prepend=0), once


def visits(
    rng: Generator, counts: Ints, once: Flags, days: int, behaviour: Behaviour
) -> tuple[Visits, Ints]:
    """Draw the beginnings of visits and the moment of each event, in the rhythm of days and weeks.

    Two visits of a visitor are at least `_PAUSE` apart, two events a second.

    Args:
        rng: Source of chance.
        counts: Number of each visitor's events.
        once: Whether each visitor comes once.
        days: Length of the simulation.
        behaviour: Rates.
    """
    visitor = np.repeat(np.arange(len(counts)), counts)
    begins = ~once[visitor] & (rng.random(len(visitor)) < 1 / behaviour.visit)
    begins[np.cumsum(counts) - counts] = True
    events = np.arange(len(visitor))
    begins |= (events - np.maximum.accumulate(np.where(begins, events, 0))) % _MOST_A_VISIT == 0
    first_event = np.flatnonzero(begins)
    length = np.diff(first_event, append=len(visitor))
    of = visitor[first_event]

    between = np.clip(
        _SECONDS_BETWEEN * rng.lognormal(0, _SPREAD_BETWEEN, len(visitor)), 1, _MOST_BETWEEN
    )
    passed = np.cumsum(np.where(begins, 0, (between * 1000).astype(np.int64)))
    passed -= np.repeat(passed[first_event], length)

    # A visitor comes within a span that has room for all that is done. Where it goes beyond the end
    # it goes on from the start, so that the shop has as many visitors at its ends as in between.
    needed = np.minimum(counts / (days * MOST_A_DAY), 1)
    span = needed + (1 - needed) * rng.random(len(counts))
    share = np.sort(of + (rng.random(len(counts))[of] + span[of] * rng.random(len(of))) % 1) - of
    begins_at = _apart(of, _in_rhythm(share, days), passed[first_event + length - 1] + _PAUSE)
    return Visits(of, begins_at, first_event, length), np.repeat(begins_at, length) + passed


def _in_rhythm(share: Floats, days: int) -> Ints:
    """The moments at which these shares of all visits have begun."""
    weight = np.outer(np.resize(_WEEKDAYS, days), _HOURS).ravel()
    until = np.concatenate(([0], np.cumsum(weight)))
    return np.interp(share, until / until[-1], np.arange(len(until)) * HOUR).astype(np.int64)


def _apart(visitor: Ints, begins: Ints, takes: Ints) -> Ints:
    """The beginnings, each later by the length of the same visitor's earlier visits."""
    before = np.cumsum(takes) - takes
    apart = visitor * int(begins.max() + takes.sum()) - before
    latest: Ints = np.maximum.accumulate(begins + apart)
    return latest - apart


# Items of a list; in small categories fewer.
LENGTH = 10
# Views of each place, as shares of the first one's.
EXAMINED = 1 / np.arange(1.0, LENGTH + 1)
# Milliseconds from the list to the click.
_AHEAD = 500


def with_slates(rng: Generator, catalogue: Catalogue, events: Events) -> Events:
    """The events, with a list before each view that turns to a category.

    The list has the viewed item and others of the category. Its impressions stand before the view.
    They and the view have the view's row in `events` as `slate`, and their `position`.
    """
    category = catalogue.category[events.item]
    turns = (np.diff(category, prepend=-1) != 0) | (np.diff(events.visitor, prepend=-1) != 0)
    clicked = np.flatnonzero(turns & (events.kind == Kind.VIEW))
    begin, end = catalogue.offered(category[clicked], events.moment[clicked])
    shape = (len(clicked), 2 * LENGTH)
    shown = catalogue.popular(
        rng, np.broadcast_to(begin[:, None], shape), np.broadcast_to(end[:, None], shape)
    )
    shown[:, 0] = events.item[clicked]
    kept = _different(shown)
    place = _places(rng, kept)

    row = np.arange(len(events.item))
    view_place = np.full(len(row), NONE)
    view_place[clicked] = place[:, 0]
    slate = np.concatenate(
        (np.where(view_place == NONE, NONE, row), np.repeat(clicked, kept.sum(axis=1)))
    )
    source = np.concatenate((row, slate[len(row) :]))
    position = np.concatenate((view_place, place[kept]))
    impression = np.arange(len(source)) >= len(row)
    order = np.lexsort((np.where(impression, position, LENGTH), source))
    return Events(
        events.visitor[source][order],
        np.concatenate((events.item, shown[kept]))[order],
        np.where(impression, Kind.IMPRESSION, events.kind[source])[order],
        (events.moment[source] - np.where(impression, _AHEAD, 0))[order],
        np.where(impression, np.nan, events.value[source])[order],
        slate[order],
        position[order],
    )


def _different(shown: Ints) -> Flags:
    """The first `LENGTH` different items of each row."""
    order = np.argsort(shown, axis=1, kind="stable")
    ascending = np.take_along_axis(shown, order, axis=1)
    new = np.ones(shown.shape, np.bool_)
    np.put_along_axis(new, order[:, 1:], ascending[:, 1:] != ascending[:, :-1], axis=1)
    return new & (np.cumsum(new, axis=1) <= LENGTH)


def _places(rng: Generator, kept: Flags) -> Ints:
    """The place of each kept item: `EXAMINED` draws that of the clicked one, chance the others'."""
    looked_at = np.concatenate(([0.0], np.cumsum(EXAMINED)))
    of_clicked = (
        np.searchsorted(
            looked_at, rng.random(len(kept)) * looked_at[kept.sum(axis=1)], side="right"
        )
        - 1
    )
    chance = np.where(kept, rng.random(kept.shape), 2)
    chance[:, 0] = -1
    rank = np.argsort(np.argsort(chance, axis=1), axis=1)
    places: Ints = rank - (rank <= of_clicked[:, None])
    places[:, 0] = of_clicked
    return places
