"""Receivers of rebuilt states: visitors and items in batches, the heaviest items by demand."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from slipstream.contracts.positions import StreamInteraction
from slipstream.features import decay, demand, history
from slipstream.stores.layout import TrendingState
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor

T = TypeVar("T")


@dataclass
class HeaviestItems:
    """The `kept` heaviest items of history with their mass, as each list of demand keeps them."""

    kept: int
    state: TrendingState
    heaps: list[list[tuple[float, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.half_lives = demand.half_lives(self.state.half_life_ms)
        self.heaps = [[] for _ in self.half_lives]

    def by_item(self) -> dict[str, list[float | None]]:
        """The masses of each item by list. Masses of an item added several times are joined."""
        masses: dict[str, list[float | None]] = {}
        for place, heap in enumerate(self.heaps):
            for mass, item_id in heap:
                of_item = masses.setdefault(item_id, [None] * len(self.heaps))
                of_item[place] = decay.join(of_item[place], mass)
        return masses

    def add(self, records: Sequence[StreamInteraction], item_id: str | None) -> None:
        """Add the records of an item, or with None those that are on no item."""
        for source, offset, event in records:
            self.cover(source, offset, event.timestamp)
        if item_id is not None:
            self.push(item_id, demand_masses(records, self.half_lives))

    def cover(self, source: str, offset: int, timestamp: int) -> None:
        """Note that the state holds a source up to this offset and events up to this time (ms)."""
        self.state.applied[source] = max(offset, self.state.applied.get(source, -1))
        self.state.newest = max(self.state.newest, timestamp)

    def push(self, item_id: str, masses: Sequence[float] | None) -> None:
        """Add an item with its mass in each list, where the lightest goes when they are too many.

        None stands for an item without events that have a signal.
        """
        for heap, mass in zip(self.heaps, masses or (), strict=False):
            heapq.heappush(heap, (mass, item_id))
            if len(heap) > self.kept:
                heapq.heappop(heap)


@dataclass
class Sinks:
    """Receivers of states as they are folded. States without a receiver are not folded."""

    visitors: Callable[[list[RebuiltVisitor]], None] | None = None
    items: Callable[[list[RebuiltItem]], None] | None = None
    trending: HeaviestItems | None = None


def demand_masses(
    records: Iterable[StreamInteraction], half_lives_ms: Sequence[float]
) -> Sequence[float] | None:
    """The mass of an item's events in each list; None when they have no signal."""
    masses: Sequence[float] | None = None
    for record in history.in_order_of_time(records):
        masses = demand.add(masses, record.interaction, half_lives_ms)
    return masses


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` values; the last may be shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
