"""Fatigue of a visitor: the items that were shown lately and brought no response.

A response is an event with signal on the item. It answers the impressions up to its own moment, so
it ends the item's fatigue, and later impressions count anew.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

from slipstream.features.impressions import Impression
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent, VisitorState

E = TypeVar("E", Impression, SequenceEvent)
_time = attrgetter("timestamp")


def fruitless_impressions(
    state: VisitorState | None, now_ms: int, window_ms: int
) -> dict[str, int]:
    """The number of impressions without a response of each item that has any.

    A number may be too small, never too large. Impressions beyond the newest `IMPRESSIONS_KEPT` are
    forgotten. Those before a full sequence don't count, since a response may have left it.

    Args:
        state: the visitor's state; None for a visitor never seen.
        now_ms: the moment. What came after it does not count.
        window_ms: the age that impressions must not have reached.
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
