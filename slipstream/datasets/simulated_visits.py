"""The clock of the simulated shop's files, which jumps from one visit to the next.

Pure functions on arrays, with the source of chance as an argument. Moments are milliseconds since
the simulation's start.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from slipstream.contracts.times import HOUR_MS
from slipstream.datasets.simulated_catalogue import Floats, Ints

# Events of the busiest visitors in a day, about: the day has room for their visits.
MOST_A_DAY = 100
# Inequality of the visitors: the standard deviation of the logarithm of their events.
_SPREAD = 1.6
# Events of a visit, on average.
_A_VISIT = 6.0
# The least between two visits: the half hour without an event that ends a session, and a minute.
_PAUSE = 31 * 60_000
_SECONDS_BETWEEN, _SPREAD_BETWEEN, _MOST_BETWEEN = 25, 1.0, 600
_HOURS = (4, 2, 1, 1, 1, 2, 4, 7, 9, 10, 11, 11, 12, 12, 11, 11, 12, 13, 15, 18, 20, 19, 14, 8)
# From Monday, which the first day is.
_WEEKDAYS = (10, 10, 10, 10, 9, 12, 14)


@dataclass(frozen=True)
class Visits:
    """The visits, by visitor, then time.

    A visit's events begin at `first_event`. `moment` has an entry for each event.
    """

    visitor: Ints
    first_event: Ints
    length: Ints
    moment: Ints


def activity(rng: Generator, visitors: int, events: int, days: int) -> Ints:
    """Draw the number of each visitor's events, one at least; together they are `events`."""
    weight = rng.lognormal(0, _SPREAD, visitors)
    until = np.cumsum(np.minimum(weight, weight.mean() * days * MOST_A_DAY * visitors / events))
    until = np.rint(until / until[-1] * (events - visitors)).astype(np.int64)
    counts: Ints = 1 + np.diff(until, prepend=0)
    return counts


def visits(rng: Generator, counts: Ints, days: int) -> Visits:
    """Draw visits and the moment of each event, in the rhythm of days and weeks.

    Two visits of a visitor are at least `_PAUSE` apart, two events a second. `counts` has the
    number of each visitor's events.
    """
    visitor = np.repeat(np.arange(len(counts)), counts)
    begins = rng.random(len(visitor)) < 1 / _A_VISIT
    begins[np.cumsum(counts) - counts] = True
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
    return Visits(of, first_event, length, np.repeat(begins_at, length) + passed)


def _in_rhythm(share: Floats, days: int) -> Ints:
    """The moments at which these shares of all visits have begun."""
    weight = np.outer(np.resize(_WEEKDAYS, days), _HOURS).ravel()
    until = np.concatenate(([0], np.cumsum(weight)))
    return np.interp(share, until / until[-1], np.arange(len(until)) * HOUR_MS).astype(np.int64)


def _apart(visitor: Ints, begins: Ints, takes: Ints) -> Ints:
    """The beginnings, each later by the length of the same visitor's earlier visits."""
    before = np.cumsum(takes) - takes
    apart = visitor * int(begins.max() + takes.sum()) - before
    latest: Ints = np.maximum.accumulate(begins + apart)
    return latest - apart
