"""Which interactions have been on the topic before: those that ingestion was not sure of are looked for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from slipstream.broker.consumer import Message
from slipstream.contracts.events import Interaction
from slipstream.stores.lake import INTERACTIONS, Lake, Place

#: event id → the places where it stands
Places = Mapping[str, Collection[Place]]


def without_repeats(
    messages: Sequence[Message[Any]], lake: Lake, waiting: Callable[[Collection[str]], Places], lookback_ms: int
) -> tuple[list[Message[Any]], int]:
    """The messages without interactions that may be repeats and are, and how many those were.

    A marked interaction is a repeat when its event id stands at another place: in the lake (received up to `lookback_ms` before),
    among the rows on their way there (`waiting`), or earlier among these messages. A place further on in the same partition is a
    later copy and does not count. What is in the lake itself has been judged before. So what is read again gets the same verdict.

    Raises `LakeUnavailableError`: without the lake nothing can be said.
    """
    marked = [m.record for m in messages if isinstance(m.record, Interaction) and m.record.maybe_repeat]
    if not marked:
        return list(messages), 0
    ids = {event.event_id for event in marked}
    since = min(event.received_at for event in marked) - lookback_ms
    known: dict[str, set[Place]] = {event_id: set() for event_id in ids}
    for found in (waiting(ids), lake.places(INTERACTIONS, ids, since)):
        for event_id, others in found.items():
            known[event_id].update(others)
    kept = []
    for message in messages:
        event = message.record
        if isinstance(event, Interaction) and event.event_id in ids:
            own = Place(message.source.topic_id, message.source.partition, message.offset)
            places = known[event.event_id]
            if event.maybe_repeat and own not in places and any(_counts_before(place, own) for place in places):
                continue
            places.add(own)
        kept.append(message)
    return kept, len(messages) - len(kept)


def _counts_before(place: Place, own: Place) -> bool:
    return place[:2] != own[:2] or place.offset < own.offset
