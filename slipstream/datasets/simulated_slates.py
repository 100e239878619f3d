"""The lists that the simulated shop showed before some views.

Their order is chance, and visitors look more often at upper places. An item is clicked if its place
is looked at and the item is wanted: the examination hypothesis, N. Craswell et al., "An
experimental comparison of click position-bias models", WSDM 2008. Since the order says nothing of
the items, the click rate of a place is its rate of views.
"""

import numpy as np
from numpy.random import Generator

from slipstream.datasets.simulated_catalogue import Catalogue, Flags, Ints
from slipstream.datasets.simulated_visits import NONE, Events, Kind

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
