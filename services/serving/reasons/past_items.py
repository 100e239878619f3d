"""The items of a history, each with all that the visitor did with it."""

from collections.abc import Iterable
from typing import NamedTuple

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import AnyEvent


class PastItem(NamedTuple):
    """A visitor's events on one item that the model knows.

    `event_type` and `timestamp` (ms) are those of the event with the most `weight`, the latest of
    several. `events` is their number.
    """

    number: int
    item_id: str
    event_type: str
    timestamp: int
    weight: float
    events: int = 1


def past_items(bundle: Bundle, history: Iterable[AnyEvent]) -> list[PastItem]:
    """The items of a history, oldest event first, that the model hears of; the latest item first.

    An item that the model does not know, or whose events have no weight, changes no list.
    """
    index, weight_of = bundle.index, bundle.event_weights.weight
    found: dict[str, PastItem] = {}
    for item_id, event_type, timestamp, value in reversed(list(history)):
        number = index.get(item_id)
        if number is None or (weight := weight_of(event_type, value)) <= 0:
            continue
        known = found.get(item_id)
        if known is None:
            found[item_id] = PastItem(number, item_id, event_type, timestamp, weight)
        elif weight > known.weight:
            found[item_id] = PastItem(
                number, item_id, event_type, timestamp, weight, known.events + 1
            )
        else:
            found[item_id] = known._replace(events=known.events + 1)
    return list(found.values())
