"""Forward decay in the log domain (Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009),
and the lists of demand by it: of trending items, and of popular ones by window.

A mass is log2 of Σ weight · 2^(t / half-life), with t in ms since the epoch. It does not change as
time passes, so items keep their order without being touched; its value at a moment is a subtraction
and a power. Sums do not depend on the order of events beyond the rounding of floats (about 1e-10 of
the value).

A window's list adds up the weights of events (`signal_weight`), each by its age: an event counts
half after half the window. At steady demand three quarters of a weight are of events within the
window. The reasons are in docs/adr/0045-popular-items-by-decay.md.
"""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Final

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import signal_weight

# log2 of the largest value; a mass far in the future of `now_ms` would overflow a float.
_LARGEST = 1_000.0


def add(mass: float | None, weight: float, timestamp: int, half_life_ms: float) -> float | None:
    """The mass with an event added. None is no events. The weight is at least 0."""
    if weight <= 0.0:
        return mass
    return join(mass, log2(weight) + timestamp / half_life_ms)


def join(mass: float | None, other: float | None) -> float | None:
    """The sum of two masses, of which None is no events."""
    if mass is None or other is None:
        return other if mass is None else mass
    return both(mass, other)


def both(mass: float, other: float) -> float:
    """The sum of two masses."""
    high, low = (mass, other) if mass >= other else (other, mass)
    return high + log2(1.0 + 2.0 ** (low - high))


def value(mass: float | None, now_ms: float, half_life_ms: float) -> float:
    """The mass's value at `now_ms`: an event's weight, halved for each half-life since then."""
    return 0.0 if mass is None else float(2.0 ** min(mass - now_ms / half_life_ms, _LARGEST))


# Length of each window in ms, by its name in `GET /v1/popular`.
POPULAR_WINDOWS: Final[Mapping[str, int]] = {
    "hour": HOUR_MS,
    "day": DAY_MS,
    "week": 7 * DAY_MS,
    "month": 30 * DAY_MS,
}
# Half-life of an event's weight in each window's list, in ms.
POPULAR_HALF_LIVES: Final[Mapping[str, float]] = {
    window: length / 2 for window, length in POPULAR_WINDOWS.items()
}


def half_lives(trending_ms: float) -> tuple[float, ...]:
    """The half-life of each list in ms: of trending items, then of popular ones by window."""
    return (trending_ms, *POPULAR_HALF_LIVES.values())


def demand_of(event: Interaction) -> float:
    """What an event adds to the demand of its item, at least 0."""
    if event.unlearned:
        return 0.0
    weight = signal_weight(event.event_type, event.value)
    return weight if event.weight is None else min(weight, event.weight)


def add_event(
    masses: Sequence[float] | None, event: Interaction, half_lives_ms: Sequence[float]
) -> Sequence[float] | None:
    """The decayed masses of an item in the lists with an event added. Masses are in the order of
    `half_lives`; None for no events. An event without signal adds nothing.
    """
    weight = demand_of(event)
    if weight <= 0.0:
        return masses
    gained = [log2(weight) + event.timestamp / half_life for half_life in half_lives_ms]
    return gained if masses is None else list(map(both, masses, gained))
