"""Co-visits: pairs of items that a visitor visited within half an hour.

A pair is made when the second of its two events arrives and the first is in the visitor's sequence,
at most `WINDOW_MS` away in event time. A record's pairs depend only on the state before it, so
reading a log again makes the same pairs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import WITHOUT_SIGNAL
from slipstream.features.visitor import SequenceEvent, VisitorState, enter

WINDOW_MS: Final = HOUR_MS // 2
# Most items that an event pairs with, those nearest in time: each is a state to be written.
PARTNERS: Final = 3

_time = attrgetter("timestamp")


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
        made.append(_pairs(sequence, entry))
        enter(sequence, entry)
    return made


def _pairs(sequence: list[SequenceEvent], new: SequenceEvent) -> list[Covisit]:
    if not sequence or sequence[-1].timestamp < new.timestamp - WINDOW_MS:
        return []
    visits = [
        event.timestamp
        for event in _between(
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


def _between(sequence: list[SequenceEvent], first: int, last: int) -> list[SequenceEvent]:
    return sequence[
        bisect_left(sequence, first, key=_time) : bisect_right(sequence, last, key=_time)
    ]


def _nearest(sequence: list[SequenceEvent], timestamp: int) -> Iterable[SequenceEvent]:
    """The events within the window, nearest first; of two as near, the earlier."""
    window = _between(sequence, timestamp - WINDOW_MS, timestamp + WINDOW_MS)
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
