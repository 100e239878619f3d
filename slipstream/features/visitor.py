"""A visitor's recent sequence and counters."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipstream.contracts.events import Interaction
from slipstream.contracts.vocabulary import PURCHASE, VIEW, WITHOUT_SIGNAL

SEQUENCE_LENGTH: Final = 100
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


class SequenceEvent(NamedTuple):
    """An event with signal on an item, as it stands in a visitor's sequence."""

    item_id: str
    event_type: str
    timestamp: int
    value: float | None = None


@dataclass(slots=True)
class VisitorState:
    """What is kept of a visitor.

    `sequence`: the newest `SEQUENCE_LENGTH` events that have an item and signal, oldest first by event time (events of one
    millisecond in the order of item id, type and value, so that their arrival does not matter). `counts`: all events by type.
    `first_seen`, `last_seen`: event times in ms. `applied`: last offset by source, see `slipstream.features.applied`.
    """

    sequence: list[SequenceEvent] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    first_seen: int = 0
    last_seen: int = 0
    applied: dict[str, int] = field(default_factory=dict)


def fold(state: VisitorState | None, interaction: Interaction) -> VisitorState:
    """The state after one more event of this visitor; None is a visitor never seen. The given state is left as it is."""
    return fold_all(state, (interaction,))


def fold_all(state: VisitorState | None, interactions: Iterable[Interaction]) -> VisitorState:
    """The state after these events, in whatever order they come. The given state is left as it is."""
    state = state or VisitorState()
    sequence, counts = state.sequence.copy(), state.counts.copy()
    first_seen, last_seen = state.first_seen, state.last_seen
    for event in interactions:
        first_seen = min(first_seen, event.timestamp) if counts else event.timestamp
        last_seen = max(last_seen, event.timestamp)
        counts[event.event_type] = counts.get(event.event_type, 0) + 1
        if event.item_id is not None and event.event_type not in WITHOUT_SIGNAL:
            _enter(sequence, SequenceEvent(event.item_id, event.event_type, event.timestamp, event.value))
    return VisitorState(sequence, counts, first_seen, last_seen, state.applied)


def visitor_features(state: VisitorState | None, now_ms: int) -> dict[str, float]:
    """The features of `slipstream.features.views.VISITOR` at `now_ms`; the defaults for a visitor never seen.

    Windows end at `now_ms`, inclusive, and count events of the sequence, so at most `SEQUENCE_LENGTH`.
    """
    state = state or VisitorState()
    ages = [now_ms - event.timestamp for event in state.sequence]
    return {
        "history_length": float(len(state.sequence)),
        "distinct_items": float(len({event.item_id for event in state.sequence})),
        "events_1h": float(sum(0 <= age < HOUR_MS for age in ages)),
        "events_1d": float(sum(0 <= age < DAY_MS for age in ages)),
        "events_7d": float(sum(0 <= age < 7 * DAY_MS for age in ages)),
        "hours_since_last": max(0, now_ms - state.last_seen) / HOUR_MS if state.counts else -1.0,
        "views": float(state.counts.get(VIEW, 0)),
        "purchases": float(state.counts.get(PURCHASE, 0)),
    }


def _order(event: SequenceEvent) -> tuple[int, str, str, float]:
    return event.timestamp, event.item_id, event.event_type, float("-inf") if event.value is None else event.value


def _enter(sequence: list[SequenceEvent], event: SequenceEvent) -> None:
    if not sequence or sequence[-1].timestamp < event.timestamp:
        sequence.append(event)
    else:
        insort(sequence, event, key=_order)
    if len(sequence) > SEQUENCE_LENGTH:
        del sequence[0]
