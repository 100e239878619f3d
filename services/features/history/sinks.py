"""Receivers of rebuilt states: visitors and items in batches, the heaviest items for trending."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay, history
from slipstream.stores.layout import TrendingState
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor

T = TypeVar("T")


@dataclass
class HeaviestItems:
    """The `kept` heaviest items of history with their mass, as the trending list keeps them."""

    kept: int
    state: TrendingState
    heap: list[tuple[float, str]] = field(default_factory=list)

    def by_item(self) -> dict[str, float]:
        """The mass of each item. Masses of an item that was added several times are joined."""
        masses: dict[str, float] = {}
        for mass, item_id in self.heap:
            masses[item_id] = decay.join(masses.get(item_id), mass) or mass
        return masses

    def add(self, records: Sequence[StreamInteraction], item_id: str | None) -> None:
        """Add the records of an item, or with None those that are on no item."""
        for source, offset, event in records:
            self.cover(source, offset, event.timestamp)
        if item_id is not None:
            self.push(item_id, trending_mass(records, self.state.half_life_ms))

    def cover(self, source: str, offset: int, timestamp: int) -> None:
        """Note that the state holds a source up to this offset and events up to this time (ms)."""
        self.state.applied[source] = max(offset, self.state.applied.get(source, -1))
        self.state.newest = max(self.state.newest, timestamp)

    def push(self, item_id: str, mass: float | None) -> None:
        """Add an item with its mass; the lightest item goes when there are too many."""
        if mass is not None:
            heapq.heappush(self.heap, (mass, item_id))
            if len(self.heap) > self.kept:
                heapq.heappop(self.heap)


@dataclass
class Sinks:
    """Receivers of states as they are folded. States without a receiver are not folded."""

    visitors: Callable[[list[RebuiltVisitor]], None] | None = None
    items: Callable[[list[RebuiltItem]], None] | None = None
    trending: HeaviestItems | None = None


def trending_mass(records: Iterable[StreamInteraction], half_life_ms: float) -> float | None:
    """The mass of an item's events in the trending list; None when they have no signal."""
    mass = None
    for record in history.in_order_of_time(records):
        event = record.interaction
        mass = decay.add(mass, signal_weight(event.event_type), event.timestamp, half_life_ms)
    return mass


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` values; the last may be shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
