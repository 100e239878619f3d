"""Simulated visits for benchmarks: some minutes long, on items of unequal demand, mostly views."""

import bisect
import itertools
import random
from collections.abc import Iterator
from typing import Final

from slipstream.contracts.events import Interaction

TYPES: Final = ("view",) * 10 + ("click",) * 5 + ("cart",) * 2 + ("purchase",)
# Fewest and most events of a visit, and seconds from each event to the next.
_VISIT: Final = (1, 12)
_PAUSE_S: Final = (3, 120)


def visits(
    count: int, visitors: int, items: int, until_ms: int, hours: float = 24.0
) -> list[Interaction]:
    """Make events in order of time; the same for the same arguments.

    Args:
        count: Number of events.
        visitors: Number of visitors: v0, v1, … One that returns has several visits.
        items: Number of items: i0, i1, …, in demand by Zipf's law.
        until_ms: End of the time span, in ms since the epoch.
        hours: Its length.
    """
    chance = random.Random(11)
    demand = list(itertools.accumulate(1 / (rank + 1) for rank in range(items)))
    events: list[Interaction] = []
    for visit in itertools.count():
        visitor = visit if visit < visitors else chance.randrange(visitors)
        events += _visit(
            chance, f"v{visitor}", demand, until_ms - int(chance.random() * hours * 3_600_000)
        )
        if len(events) >= count:
            break
    events = events[:count]
    events.sort(key=lambda event: event.timestamp)
    return events


def _visit(
    chance: random.Random, visitor: str, demand: list[float], end_ms: int
) -> Iterator[Interaction]:
    when = end_ms
    for _ in range(chance.randint(*_VISIT)):
        when -= chance.randint(*_PAUSE_S) * 1_000
        yield Interaction(
            event_id=f"{chance.getrandbits(128):032x}",
            event_type=chance.choice(TYPES),
            user_id=visitor,
            item_id=f"i{bisect.bisect_left(demand, chance.random() * demand[-1])}",
            timestamp=when,
            received_at=when + 40,
            session_id=f"{visitor}-{end_ms}",
            source="shop",
            properties={"price": 19.99, "category": "shoes"},
        )
