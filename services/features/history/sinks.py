"""States rebuilt from history, by the functions that fold the stream, and their receivers.

Both engines use these. A receiver takes visitors and items in batches, and the heaviest items by
demand.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from services.features.history.lake_snapshot import CatalogHistory
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import decay, history
from slipstream.features.history import StreamCovisit
from slipstream.features.visitor import Covisit, VisitorState
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
        self.half_lives = decay.half_lives(self.state.half_life_ms)
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
        masses = decay.add_event(masses, record.interaction, half_lives_ms)
    return masses


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` values; the last may be shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def rebuilt_visitor(
    catalog: CatalogHistory, user_id: str, records: Sequence[StreamInteraction]
) -> tuple[RebuiltVisitor, list[StreamCovisit]]:
    """The state of a user after all its records, and the pairs of items that they make."""
    arrived = history.in_order_of_arrival(records)
    state = history.visitor_state(user_id, arrived)
    members, erased = catalog.members(user_id), catalog.erased(user_id)
    state = replace(
        state,
        applied={**state.applied, **dict(erased)},
        is_user=state.is_user or bool(members or erased),
    )
    last = max(record.interaction.received_at for record in arrived)
    pairs = history.covisits(user_id, arrived, catalog.links_to(user_id))
    return RebuiltVisitor(user_id, state, members, last, catalog.unproven(user_id)), pairs


def linked_visitor(catalog: CatalogHistory, user_id: str) -> RebuiltVisitor:
    """The state of a user without a record that other visitors are linked to."""
    last = max(link.timestamp for link in catalog.links_to(user_id))
    state = VisitorState(is_user=True)
    return RebuiltVisitor(user_id, state, catalog.members(user_id), last, catalog.unproven(user_id))


def rebuilt_item(
    item_id: str, records: Sequence[StreamInteraction], pairs: Sequence[StreamCovisit]
) -> RebuiltItem:
    """The state of an item after all its records and the pairs that it is in."""
    last = max(record.interaction.received_at for record in records)
    return RebuiltItem(item_id, history.item_state(records, pairs), last)


def pairs_by_item(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[StreamCovisit]]:
    """Pairs by the item that they belong to, from rows (source, offset, item, neighbour, time)."""
    pairs: dict[str, list[StreamCovisit]] = {}
    for source, offset, *pair in rows:
        pairs.setdefault(pair[0], []).append(StreamCovisit(source, offset, Covisit(*pair)))
    return pairs
