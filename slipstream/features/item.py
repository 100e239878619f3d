"""An item's counts, windows and decayed popularity."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from slipstream.contracts.events import Interaction
from slipstream.contracts.vocabulary import PURCHASE, VIEW, WITHOUT_SIGNAL, signal_weight
from slipstream.features import decay
from slipstream.features.visitor import DAY_MS, HOUR_MS

POPULARITY_HALF_LIFE_MS: Final = 7 * DAY_MS
#: Windows are read over 24 hours and 7 days; a day more is kept, since a clock may run ahead by as much.
HOURS_KEPT: Final = 48
DAYS_KEPT: Final = 8


@dataclass(slots=True)
class ItemState:
    """What is kept of an item.

    `counts`: all events by type. `mass`: decayed popularity (see `decay`, half-life `POPULARITY_HALF_LIFE_MS`) of the events
    with signal, each by the weight of its type; None before the first. `hours`, `days`: events with signal by hour and by day
    since the epoch, for the newest `HOURS_KEPT` and `DAYS_KEPT`. `first_seen`, `last_seen`: event times in ms.
    `applied`: last offset by source, see `slipstream.features.applied`.
    """

    counts: dict[str, int] = field(default_factory=dict)
    mass: float | None = None
    hours: dict[int, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    first_seen: int = 0
    last_seen: int = 0
    applied: dict[str, int] = field(default_factory=dict)


def fold(state: ItemState | None, interaction: Interaction) -> ItemState:
    """The state after one more event on this item; None is an item never seen. The given state is left as it is."""
    return fold_all(state, (interaction,))


def fold_all(state: ItemState | None, interactions: Iterable[Interaction]) -> ItemState:
    """The state after these events, in whatever order they come. The given state is left as it is."""
    state = state or ItemState()
    counts, hours, days = state.counts.copy(), state.hours.copy(), state.days.copy()
    mass, first_seen, last_seen = state.mass, state.first_seen, state.last_seen
    for event in interactions:
        when = event.timestamp
        first_seen = min(first_seen, when) if counts else when
        last_seen = max(last_seen, when)
        counts[event.event_type] = counts.get(event.event_type, 0) + 1
        if event.event_type in WITHOUT_SIGNAL:
            continue
        mass = decay.add(mass, signal_weight(event.event_type), when, POPULARITY_HALF_LIFE_MS)
        hours[when // HOUR_MS] = hours.get(when // HOUR_MS, 0) + 1
        days[when // DAY_MS] = days.get(when // DAY_MS, 0) + 1
    return ItemState(counts, mass, _newest(hours, HOURS_KEPT), _newest(days, DAYS_KEPT), first_seen, last_seen, state.applied)


def item_features(state: ItemState | None, now_ms: int) -> dict[str, float]:
    """The features of `slipstream.features.views.ITEM` at `now_ms`; the defaults for an item never seen.

    `events_1d` counts the hour of `now_ms` and the 23 before it, `events_7d` its day (UTC) and the 6 before it.
    """
    state = state or ItemState()
    hour, day = now_ms // HOUR_MS, now_ms // DAY_MS
    return {
        "views": float(state.counts.get(VIEW, 0)),
        "purchases": float(state.counts.get(PURCHASE, 0)),
        "popularity": decay.value(state.mass, now_ms, POPULARITY_HALF_LIFE_MS),
        "events_1d": float(sum(count for at, count in state.hours.items() if hour - 24 < at <= hour)),
        "events_7d": float(sum(count for at, count in state.days.items() if day - 7 < at <= day)),
        "age_hours": max(0, now_ms - state.first_seen) / HOUR_MS if state.counts else -1.0,
    }


def _newest(buckets: dict[int, int], kept: int) -> dict[int, int]:
    """The buckets within `kept` of the newest one, in order of time."""
    if not buckets:
        return buckets
    oldest = max(buckets) - kept
    return {at: buckets[at] for at in sorted(buckets) if at > oldest}
