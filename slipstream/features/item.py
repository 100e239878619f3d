"""State of an item, and its features: counts, windows, rates, popularity, and neighbours.

Rates are smoothed: the mean of a Beta posterior. A rate of few trials says little: one click in two
impressions is not a rate of a half. The smoothed rate begins at the prior's mean and approaches the
plain rate with many trials.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import (
    CLICK,
    IMPRESSION,
    PURCHASE,
    VIEW,
    WITHOUT_SIGNAL,
)
from slipstream.features import decay
from slipstream.features import tiles as tiling
from slipstream.features.tiles import ALL_BUT_IMPRESSIONS, GROUP_OF, OF_TYPE, OTHER, Tiles, TileSize
from slipstream.features.visitor import Covisit


class Prior(NamedTuple):
    """Beta distribution: the successes and failures assumed before the first trial."""

    successes: float
    failures: float


# 5 % of impressions are clicked, worth 20 impressions.
CLICK_THROUGH: Final = Prior(1.0, 19.0)
# 2 % of visits end in a purchase, worth 50 visits.
CONVERSION: Final = Prior(1.0, 49.0)


def smoothed(successes: float, trials: float, prior: Prior) -> float:
    """The posterior's mean, between 0 and 1. There are at least as many trials as successes."""
    return (prior.successes + successes) / (
        prior.successes + prior.failures + max(trials, successes)
    )


POPULARITY_HALF_LIFE_MS: Final = 7 * DAY_MS
NEIGHBOUR_HALF_LIFE_MS: Final = 14 * DAY_MS
# Windows are read over 24 hours and 30 days. A day more is kept, since a device's clock may run
# ahead by as much.
HOURS: Final = TileSize(HOUR_MS, 48)
DAYS: Final = TileSize(DAY_MS, 31)
# The features have 20 neighbours. A few more are kept, so that a frequent neighbour is not lost
# to the latest.
NEIGHBOURS: Final = 20
NEIGHBOURS_KEPT: Final = 24
_MASS_UNITS: Final = 1_000_000


@dataclass(slots=True)
class ItemState:
    """State that the stream keeps of an item.

    Attributes:
        counts: all events by type.
        mass: popularity, the decayed mass (see `decay`) of the events with signal by the weights of
            their types, half-life `POPULARITY_HALF_LIFE_MS`; None before the first.
        hours, days: events with signal and impressions, in tiles.
        first_seen, last_seen: event times in ms.
        applied: last offset by source, see `slipstream.contracts.positions`.
        neighbours: the decayed mass of the pairs with each other item (see `visitor.pairs`),
            half-life `NEIGHBOUR_HALF_LIFE_MS`; the heaviest `NEIGHBOURS_KEPT`. Masses are in
            millionths of those of `decay`, as integers, which take less space.
    """

    counts: dict[str, int] = field(default_factory=dict)
    mass: float | None = None
    hours: Tiles = field(default_factory=Tiles)
    days: Tiles = field(default_factory=Tiles)
    first_seen: int = 0
    last_seen: int = 0
    applied: dict[str, int] = field(default_factory=dict)
    neighbours: dict[str, int] = field(default_factory=dict)


def fold_all(
    state: ItemState | None, interactions: Iterable[Interaction], covisits: Iterable[Covisit] = ()
) -> ItemState:
    """The state after these events and pairs of this item, in whatever order they come.

    The given state is not changed. `covisits` are those of `visitor.pairs` with this `item_id`.
    The caller counts a record once by its source and offset, so a record's event and pairs belong
    into one call. The neighbours do not depend on the order while no more come than are kept.
    """
    state = state or ItemState()
    counts, hours, days = state.counts.copy(), state.hours, state.days
    mass, first_seen, last_seen = state.mass, state.first_seen, state.last_seen
    for event in interactions:
        if event.unlearned:
            continue
        kind, when = event.event_type, event.timestamp
        first_seen = min(first_seen, when) if counts else when
        last_seen = max(last_seen, when)
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in WITHOUT_SIGNAL:
            mass = decay.add(mass, decay.demand_of(event), when, POPULARITY_HALF_LIFE_MS)
        elif kind != IMPRESSION:
            continue
        group = GROUP_OF.get(kind, OTHER)
        if hours is state.hours:
            hours, days = hours.copy(), days.copy()
        tiling.add(hours, HOURS, when, group)
        tiling.add(days, DAYS, when, group)
    neighbours = _with(state.neighbours, covisits)
    return ItemState(counts, mass, hours, days, first_seen, last_seen, state.applied, neighbours)


def neighbours_of(state: ItemState | None, now_ms: int) -> list[tuple[str, float]]:
    """The items most visited with an item, and the decayed number of pairs at `now_ms`.

    A pair made at `now_ms` counts 1, one made a half-life before a half.
    """
    if state is None:
        return []
    heaviest = sorted(state.neighbours.items(), key=_heaviest_first)[:NEIGHBOURS]
    return [
        (other, decay.value(mass / _MASS_UNITS, now_ms, NEIGHBOUR_HALF_LIFE_MS))
        for other, mass in heaviest
    ]


def neighbour_features(
    state: ItemState | None, now_ms: int, names: Iterable[str] | None = None
) -> dict[str, Any]:
    """The features of `views.ITEM_NEIGHBOURS` at `now_ms`; all, or those named."""
    heaviest = neighbours_of(state, now_ms)
    features = {
        "neighbours": [other for other, _ in heaviest],
        "neighbour_weights": [weight for _, weight in heaviest],
    }
    return features if names is None else {name: features[name] for name in names}


def item_features(
    state: ItemState | None, now_ms: int, names: Iterable[str] | None = None
) -> dict[str, float]:
    """The features of `views.ITEM` at `now_ms`; all, or those named. Unseen items have defaults.

    Windows are whole tiles: a day is the hour of `now_ms` and the 23 before it, 7 and 30 days its
    day (UTC) and those before it. A state is exact from its newest event on. For an earlier moment,
    windows leave out the tiles from that of `now_ms` on, but counts ever, popularity and neighbours
    include later events. To read an earlier moment exactly, fold only the events up to it.
    """
    reading = _Reading(state or ItemState(), now_ms)
    return {name: FEATURES[name](reading) for name in (FEATURES if names is None else names)}


class _Window(NamedTuple):
    hourly: bool
    length: int


_WINDOWS: Final = {"1d": _Window(True, 24), "7d": _Window(False, 7), "30d": _Window(False, 30)}


class _Reading:
    """Reading of a state at a moment."""

    def __init__(self, state: ItemState, now_ms: int) -> None:
        self.state, self.now_ms = state, now_ms
        self.ahead = state.last_seen > now_ms

    def within(self, groups: tuple[int, ...], window: _Window) -> float:
        tiles, size = (self.state.hours, HOURS) if window.hourly else (self.state.days, DAYS)
        return float(
            tiling.total(
                tiles, groups, self.now_ms // size.ms - self.ahead, window.length - self.ahead
            )
        )

    def click_through(self, window: _Window | None) -> float:
        return smoothed(self.number(CLICK, window), self.number(IMPRESSION, window), CLICK_THROUGH)

    def conversion(self, window: _Window | None) -> float:
        """Purchases by visits. A visit may record a view, a click or both: the larger count."""
        visits = max(self.number(VIEW, window), self.number(CLICK, window))
        return smoothed(self.number(PURCHASE, window), visits, CONVERSION)

    def number(self, kind: str, window: _Window | None) -> float:
        return (
            float(self.state.counts.get(kind, 0))
            if window is None
            else self.within((GROUP_OF[kind],), window)
        )

    def momentum(self) -> float:
        lately, usually = (
            self.within(ALL_BUT_IMPRESSIONS, _WINDOWS["1d"]),
            self.within(ALL_BUT_IMPRESSIONS, _WINDOWS["7d"]) / 7,
        )
        return (1.0 + lately) / (1.0 + usually)

    def hours_since(self, moment: int) -> float:
        return max(0, self.now_ms - moment) / HOUR_MS if self.state.counts else -1.0


def _within(groups: tuple[int, ...], window: _Window) -> Callable[[_Reading], float]:
    return lambda reading: reading.within(groups, window)


def _number(kind: str, window: _Window | None) -> Callable[[_Reading], float]:
    return lambda reading: reading.number(kind, window)


def _click_through(window: _Window | None) -> Callable[[_Reading], float]:
    return lambda reading: reading.click_through(window)


def _conversion(window: _Window | None) -> Callable[[_Reading], float]:
    return lambda reading: reading.conversion(window)


# The features that change from one moment to the next. The others change with the state, and once
# an hour with the tiles of a window, unless the state is ahead of the moment.
MOVING: Final = frozenset({"popularity", "age_hours", "hours_since_last"})

# Each feature, and how it is read.
FEATURES: Final[dict[str, Callable[[_Reading], float]]] = {
    **{name: _number(kind, None) for name, kind in OF_TYPE.items()},
    "popularity": lambda reading: decay.value(
        reading.state.mass, reading.now_ms, POPULARITY_HALF_LIFE_MS
    ),
    **{f"events_{span}": _within(ALL_BUT_IMPRESSIONS, window) for span, window in _WINDOWS.items()},
    **{
        f"{name}_{span}": _number(kind, window)
        for name, kind in OF_TYPE.items()
        for span, window in _WINDOWS.items()
    },
    "click_through": _click_through(None),
    "click_through_7d": _click_through(_WINDOWS["7d"]),
    "click_through_30d": _click_through(_WINDOWS["30d"]),
    "conversion": _conversion(None),
    "conversion_7d": _conversion(_WINDOWS["7d"]),
    "conversion_30d": _conversion(_WINDOWS["30d"]),
    "momentum": lambda reading: reading.momentum(),
    "age_hours": lambda reading: reading.hours_since(reading.state.first_seen),
    "hours_since_last": lambda reading: reading.hours_since(reading.state.last_seen),
}


def _with(neighbours: dict[str, int], covisits: Iterable[Covisit]) -> dict[str, int]:
    """The neighbours with these pairs added, the heaviest of them."""
    gained: dict[str, float] = {}
    for _, other, timestamp in covisits:
        mass = timestamp / NEIGHBOUR_HALF_LIFE_MS  # of one pair: log2 of its weight is 0
        gained[other] = decay.both(gained[other], mass) if other in gained else mass
    if not gained:
        return neighbours
    after = neighbours.copy()
    for other, mass in gained.items():
        held = after.get(other)
        after[other] = round(
            (mass if held is None else decay.both(held / _MASS_UNITS, mass)) * _MASS_UNITS
        )
    return (
        after
        if len(after) <= NEIGHBOURS_KEPT
        else dict(sorted(after.items(), key=_heaviest_first)[:NEIGHBOURS_KEPT])
    )


def _heaviest_first(neighbour: tuple[str, int]) -> tuple[int, str]:
    return -neighbour[1], neighbour[0]
