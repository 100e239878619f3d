"""State of a visitor, its features, and the pairs of items that the visitor visited together.

The sequence has the newest events one by one, and windows count them to the millisecond. Events
that have left the sequence, or never enter it (searches, impressions), are counted in tiles. So a
visitor with a short history has nothing in tiles.

Impressions are the items that were shown lately, each with its moment. The newest are kept, by
event time. So the list is the same in every order of arrival, and the list of a merged visitor is
made of the lists of both.

Fatigue is that of items which were shown and brought no response. A response is an event with
signal on the item. It answers the impressions up to its own moment, so it ends the item's fatigue,
and later impressions count again.

A pair is made when the second of its two events arrives and the first is in the visitor's sequence,
at most `WINDOW_MS` away in event time. A record's pairs depend only on the state before it, so
reading a log again makes the same pairs.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import CART, CLICK, IMPRESSION, PURCHASE, VIEW, WITHOUT_SIGNAL
from slipstream.features import tiles as tiling
from slipstream.features.tiles import ALL_BUT_IMPRESSIONS, GROUP_OF, OF_TYPE, OTHER, Tiles, TileSize

IMPRESSIONS_KEPT: Final = 100


class Impression(NamedTuple):
    """Item that was shown at a time, in ms. Impressions stand by time, then by item id."""

    timestamp: int
    item_id: str


def newest(impressions: list[Impression], others: list[Impression]) -> list[Impression]:
    """The newest `IMPRESSIONS_KEPT` of both lists, oldest first. The given lists stay as they are.
    `impressions` are in order, and at most as many; `others` in any order.
    """
    return sorted(impressions + others)[-IMPRESSIONS_KEPT:] if others else impressions


SEQUENCE_LENGTH: Final = 100
# Five minutes for the window of an hour, hours for a day, days for 7 and 30 days.
TILE_SIZES: Final = (TileSize(HOUR_MS // 12, 12), TileSize(HOUR_MS, 24), TileSize(DAY_MS, 31))


class SequenceEvent(NamedTuple):
    """Event with signal on an item, in a visitor's sequence."""

    item_id: str
    event_type: str
    timestamp: int
    value: float | None = None


@dataclass(slots=True)
class VisitorState:
    """State that the stream keeps of a visitor.

    Attributes:
        sequence: the newest `SEQUENCE_LENGTH` events with an item and signal, oldest first. Events
            of one millisecond stand by item id, type and value, so arrival does not matter.
        first_seen, last_seen: event times in ms.
        applied: last offset by source, see `slipstream.contracts.positions`.
        tiles: the events outside the sequence, by `TILE_SIZES`; empty when there are none.
        merged: the visitors merged into this one, each with its last offset by source.
        is_user: whether events came under a user's id, or a visitor was linked to this one.
        impressions: the newest impressions of items, oldest first.
    """

    sequence: list[SequenceEvent] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    first_seen: int = 0
    last_seen: int = 0
    applied: dict[str, int] = field(default_factory=dict)
    recent: dict[str, int] = field(default_factory=dict)
    tiles: list[Tiles] = field(default_factory=list)
    merged: dict[str, dict[str, int]] = field(default_factory=dict)
    is_user: bool = False
    impressions: list[Impression] = field(default_factory=list)


def fold_all(state: VisitorState | None, interactions: Iterable[Interaction]) -> VisitorState:
    """The state after these events, in whatever order they come; the given one is not changed."""
    state = state or VisitorState()
    sequence, counts, recent = state.sequence.copy(), state.counts.copy(), state.recent.copy()
    first_seen, last_seen, is_user = state.first_seen, state.last_seen, state.is_user
    tiles: list[Tiles] | None = None
    shown: list[Impression] = []
    for event in interactions:
        kind, when = event.event_type, event.timestamp
        # A visitor's events without a user have the anonymous id in both fields.
        is_user = is_user or event.anonymous_id != event.user_id
        first_seen = min(first_seen, when) if counts else when
        last_seen = max(last_seen, when)
        counts[kind] = counts.get(kind, 0) + 1
        recent[kind] = max(recent.get(kind, 0), when)
        if event.item_id is not None and kind not in WITHOUT_SIGNAL:
            left = enter(sequence, SequenceEvent(event.item_id, kind, when, event.value))
            if left is None:
                continue
            kind, when = left.event_type, left.timestamp
        elif kind == IMPRESSION and event.item_id is not None:
            shown.append(Impression(when, event.item_id))
        tiles = tiles or _copied(state.tiles)
        for size, kept in zip(TILE_SIZES, tiles, strict=True):
            tiling.add(kept, size, when, GROUP_OF.get(kind, OTHER))
    if tiles is None:
        tiles = state.tiles
    return VisitorState(
        sequence, counts, first_seen, last_seen, state.applied, recent, tiles, state.merged,
        is_user, newest(state.impressions, shown),
    )  # fmt: skip


def join(state: VisitorState, other: VisitorState) -> VisitorState:
    """The sum of both, as if all events had been folded into one; neither is changed.

    It has the `applied` of `state`, and no `merged`.
    """
    is_user = state.is_user or other.is_user
    if not state.counts or not other.counts:
        seen = state if state.counts else other
        return replace(seen, applied=state.applied, merged={}, is_user=is_user)
    sequence = sorted(state.sequence + other.sequence, key=_order)
    counts, recent = state.counts.copy(), state.recent.copy()
    for kind, count in other.counts.items():
        counts[kind] = counts.get(kind, 0) + count
    for kind, when in other.recent.items():
        recent[kind] = max(recent.get(kind, 0), when)
    tiles = state.tiles or other.tiles
    if state.tiles and other.tiles:
        tiles = [
            tiling.join(*both) for both in zip(state.tiles, other.tiles, TILE_SIZES, strict=True)
        ]
    left = sequence[:-SEQUENCE_LENGTH]
    if left:
        tiles = _copied(tiles)
        for event in left:
            for size, kept in zip(TILE_SIZES, tiles, strict=True):
                tiling.add(kept, size, event.timestamp, GROUP_OF.get(event.event_type, OTHER))
    return VisitorState(
        sequence[-SEQUENCE_LENGTH:],
        counts,
        min(state.first_seen, other.first_seen),
        max(state.last_seen, other.last_seen),
        state.applied,
        recent,
        tiles,
        is_user=is_user,
        impressions=newest(state.impressions, other.impressions),
    )


def visitor_features(
    state: VisitorState | None, now_ms: int, names: Iterable[str] | None = None
) -> dict[str, float]:
    """The numbers of `views.VISITOR` at `now_ms`; all, or those named. Unseen visitors: defaults.

    Windows end at `now_ms`, inclusive: to the millisecond for events of the sequence, by whole
    tiles for those that are not in it. A state is exact from its newest event on. For an earlier
    moment (a device's clock was ahead), all later events are left out: those of the sequence
    exactly, tiles from the one of `now_ms` on. So a count may be too small there, never too large.
    31 days or more before the newest event, counts are those of the sequence alone.
    """
    reading = _Reading(state or VisitorState(), now_ms)
    return {name: FEATURES[name](reading) for name in (FEATURES if names is None else names)}


def visitor_view(state: VisitorState | None, now_ms: int, names: Iterable[str]) -> dict[str, Any]:
    """The named features of `views.VISITOR` at `now_ms`: numbers, and lists of the sequence."""
    reading = _Reading(state or VisitorState(), now_ms)
    return {
        name: FEATURES[name](reading)
        if name in FEATURES
        else [event[_COLUMNS[name]] for event in reading.sequence]
        for name in names
    }


class _Window(NamedTuple):
    ms: int
    tiles: int
    length: int


_WINDOWS: Final = {
    "1h": _Window(HOUR_MS, 0, 12),
    "1d": _Window(DAY_MS, 1, 24),
    "7d": _Window(7 * DAY_MS, 2, 7),
    "30d": _Window(30 * DAY_MS, 2, 30),
}
_time = attrgetter("timestamp")


class _Reading:
    """Reading of a state at a moment."""

    def __init__(self, state: VisitorState, now_ms: int) -> None:
        self.state, self.now_ms = state, now_ms
        self.ahead = state.last_seen > now_ms
        self.sequence = state.sequence
        if self.ahead:
            self.sequence = state.sequence[: bisect_right(state.sequence, now_ms, key=_time)]
        self._types: list[str] | None = None
        self._firsts: dict[int, int] = {}

    def within(self, kind: str | None, window: _Window) -> float:
        """The number of events of a type in a window; of all types but impressions for None."""
        first = self._firsts.get(window.ms)
        if first is None:
            first = self._firsts[window.ms] = bisect_left(
                self.sequence, self.now_ms - window.ms + 1, key=_time
            )
        number = len(self.sequence) - first
        if kind is not None and number:
            if self._types is None:
                self._types = [event.event_type for event in self.sequence]
            number = self._types[first:].count(kind)
        if self.state.tiles:
            until = self.now_ms // TILE_SIZES[window.tiles].ms - self.ahead
            number += tiling.total(
                self.state.tiles[window.tiles], _groups(kind), until, window.length - self.ahead
            )
        return float(number)

    def ever(self, kind: str | None) -> float:
        counts = self.state.counts
        number = (
            sum(counts.values()) - counts.get(IMPRESSION, 0)
            if kind is None
            else counts.get(kind, 0)
        )
        if self.ahead and number:
            number -= sum(
                kind in (None, event.event_type)
                for event in self.state.sequence[len(self.sequence) :]
            )
            if self.state.tiles:
                days, today = self.state.tiles[2], self.now_ms // DAY_MS
                if days.newest - today >= TILE_SIZES[2].kept:
                    # The tiles of days after the moment may be gone already, so the counts can't
                    # be told apart any more: only the sequence is sure to be from before it.
                    return float(sum(kind in (None, event.event_type) for event in self.sequence))
                number -= tiling.total(
                    days, _groups(kind), max(days.newest, today), max(days.newest - today, 0) + 1
                )
        return float(max(0, number))

    def hours_since(self, kind: str | None) -> float:
        """The hours since the newest event of a type (None: any); -1 when there is none."""
        last_seen = self.state.last_seen if self.state.counts else None
        newest = last_seen if kind is None else self.state.recent.get(kind)
        if newest is None or newest > self.now_ms:
            times = (
                event.timestamp
                for event in reversed(self.sequence)
                if kind in (None, event.event_type)
            )
            newest = next(times, None)
        return -1.0 if newest is None else (self.now_ms - newest) / HOUR_MS


_COLUMNS: Final = {"recent_items": 0, "recent_types": 1, "recent_times": 2}


def _groups(kind: str | None) -> tuple[int, ...]:
    return ALL_BUT_IMPRESSIONS if kind is None else (GROUP_OF[kind],)


def _within(kind: str | None, window: _Window) -> Callable[[_Reading], float]:
    return lambda reading: reading.within(kind, window)


def _ever(kind: str | None) -> Callable[[_Reading], float]:
    return lambda reading: reading.ever(kind)


def _hours_since(kind: str | None) -> Callable[[_Reading], float]:
    return lambda reading: reading.hours_since(kind)


# Each feature, and how it is read.
FEATURES: Final[dict[str, Callable[[_Reading], float]]] = {
    "history_length": lambda reading: float(len(reading.sequence)),
    "distinct_items": lambda reading: float(len({event.item_id for event in reading.sequence})),
    **{f"events_{name}": _within(None, window) for name, window in _WINDOWS.items()},
    "hours_since_last": _hours_since(None),
    "events": _ever(None),
    **{name: _ever(kind) for name, kind in OF_TYPE.items()},
    **{
        f"{name}_{span}": _within(kind, window)
        for name, kind in OF_TYPE.items()
        for span, window in _WINDOWS.items()
    },
    **{f"hours_since_{kind}": _hours_since(kind) for kind in (VIEW, CLICK, CART, PURCHASE)},
}


def enter(sequence: list[SequenceEvent], event: SequenceEvent) -> SequenceEvent | None:
    """Insert an event into a sequence; the event that leaves a full one, or None."""
    if not sequence or sequence[-1].timestamp < event.timestamp:
        sequence.append(event)
    else:
        insort(sequence, event, key=_order)
    return sequence.pop(0) if len(sequence) > SEQUENCE_LENGTH else None


def _order(event: SequenceEvent) -> tuple[int, str, str, float]:
    return (
        event.timestamp,
        event.item_id,
        event.event_type,
        float("-inf") if event.value is None else event.value,
    )


def _copied(tiles: list[Tiles]) -> list[Tiles]:
    return [kept.copy() for kept in tiles] if tiles else [Tiles() for _ in TILE_SIZES]


E = TypeVar("E", Impression, SequenceEvent)


def fruitless_impressions(
    state: VisitorState | None, now_ms: int, window_ms: int
) -> dict[str, int]:
    """The number of impressions without a response of each item that has any.

    A number may be too small, never too large. Impressions beyond the newest `IMPRESSIONS_KEPT` are
    forgotten. Those before a full sequence don't count, since a response may have left it. Ages are
    below `window_ms`; what came after `now_ms` does not count.
    """
    if state is None or not state.impressions:
        return {}
    since = now_ms - window_ms
    if len(state.sequence) >= SEQUENCE_LENGTH:
        since = max(since, state.sequence[0].timestamp)
    answered = {event.item_id: event.timestamp for event in _between(state.sequence, since, now_ms)}
    fruitless: dict[str, int] = {}
    for when, item_id in _between(state.impressions, since, now_ms):
        if when > answered.get(item_id, since):
            fruitless[item_id] = fruitless.get(item_id, 0) + 1
    return fruitless


def _between(events: Sequence[E], since: int, until: int) -> Sequence[E]:
    """The events after `since`, up to `until`."""
    return events[bisect_right(events, since, key=_time) : bisect_right(events, until, key=_time)]


WINDOW_MS: Final = HOUR_MS // 2
# Most items that an event pairs with, those nearest in time: each is a state to be written.
PARTNERS: Final = 3


class Covisit(NamedTuple):
    """One side of a pair: `item_id` gains `neighbour`, at the time of the later event (ms)."""

    item_id: str
    neighbour: str
    timestamp: int


def pairs(before: VisitorState | None, fresh: Sequence[Interaction]) -> list[list[Covisit]]:
    """The pairs of each of these events of a visitor, in order of arrival, both sides of each.

    `before` is the visitor's state before the first of them. An item that comes again within the
    window makes no second pair: viewing and then buying it are one visit. Beyond `SEQUENCE_LENGTH`
    events within a window the oldest make no pairs.
    """
    sequence = before.sequence.copy() if before else []
    made: list[list[Covisit]] = []
    for event in fresh:
        if event.item_id is None or event.event_type in WITHOUT_SIGNAL:
            made.append([])
            continue
        entry = SequenceEvent(event.item_id, event.event_type, event.timestamp, event.value)
        made.append([] if event.unlearned else _pairs(sequence, entry))
        enter(sequence, entry)
    return made


def _pairs(sequence: list[SequenceEvent], new: SequenceEvent) -> list[Covisit]:
    if not sequence or sequence[-1].timestamp < new.timestamp - WINDOW_MS:
        return []
    visits = [
        event.timestamp
        for event in _spanning(
            sequence, new.timestamp - 2 * WINDOW_MS, new.timestamp + 2 * WINDOW_MS
        )
        if event.item_id == new.item_id
    ]
    made: list[Covisit] = []
    partners = {new.item_id}
    for event in _nearest(sequence, new.timestamp):
        if event.item_id in partners:
            continue
        partners.add(event.item_id)
        if not any(abs(event.timestamp - visit) <= WINDOW_MS for visit in visits):
            later = max(event.timestamp, new.timestamp)
            made += (
                Covisit(new.item_id, event.item_id, later),
                Covisit(event.item_id, new.item_id, later),
            )
        if len(partners) > PARTNERS:
            break
    return made


def _spanning(sequence: list[SequenceEvent], first: int, last: int) -> list[SequenceEvent]:
    return sequence[
        bisect_left(sequence, first, key=_time) : bisect_right(sequence, last, key=_time)
    ]


def _nearest(sequence: list[SequenceEvent], timestamp: int) -> Iterable[SequenceEvent]:
    """The events within the window, nearest first; of two as near, the earlier."""
    window = _spanning(sequence, timestamp - WINDOW_MS, timestamp + WINDOW_MS)
    if window and window[-1].timestamp > timestamp:
        return _outwards(window, timestamp)
    return reversed(window)


def _outwards(window: list[SequenceEvent], timestamp: int) -> Iterator[SequenceEvent]:
    after = bisect_right(window, timestamp, key=_time)
    before = after - 1
    while before >= 0 or after < len(window):
        if after == len(window) or (
            before >= 0
            and timestamp - window[before].timestamp <= window[after].timestamp - timestamp
        ):
            yield window[before]
            before -= 1
        else:
            yield window[after]
            after += 1
