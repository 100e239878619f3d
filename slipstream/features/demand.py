"""Demand for items: the lists of trending items, and of popular ones by window.

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
from slipstream.features import decay

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


def add(
    masses: Sequence[float] | None, event: Interaction, half_lives_ms: Sequence[float]
) -> Sequence[float] | None:
    """The decayed masses of an item in the lists (see `decay`) with an event added.

    Args:
        masses: The masses before, in the order of `half_lives`; None for no events.
        event: An event of the item. One of a type without signal adds nothing.
        half_lives_ms: The half-life of each list.
    """
    weight = signal_weight(event.event_type)
    if weight <= 0.0:
        return masses
    gained = [log2(weight) + event.timestamp / half_life for half_life in half_lives_ms]
    return gained if masses is None else list(map(decay.both, masses, gained))
