"""A shop with a stream to Redis and the lake without a broker, and comparisons of states."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.features.history.archive import (
    FOLDED_COLUMNS,
    as_table,
    catalog_row,
    interaction_row,
    stream_interactions,
)
from services.features.history.backfill import BackfillReport, BackfillRequest, backfill
from services.features.settings import FeaturesSettings
from slipstream.broker.records import Message
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import now_ms
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores.connection import connect
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake
from slipstream.stores.online import OnlineStore
from tests.unit.features.placed_events import like

PARTITIONS = 3
KINDS = ("view", "view", "click", "cart", "purchase", "search", "impression")


@dataclass
class Shop:
    """A stream of events and catalogue records that a test applies and archives when it likes."""

    settings: FeaturesSettings
    chosen: random.Random = field(default_factory=lambda: random.Random(5))
    offset: int = -1

    def __post_init__(self) -> None:
        self.store = OnlineStore(
            self.settings.redis, self.settings.namespace, self.settings.retention()
        )
        self.lake = Lake(self.settings.lake, self.settings.namespace)
        self.redis: Any = connect(self.settings.redis)

    def events(self, count: int, user: str = "") -> list[StreamInteraction]:
        """The next events. Those of a visitor are always in the same partition."""
        now, made = now_ms(), []
        for _ in range(count):
            self.offset += 1
            kind = self.chosen.choice(KINDS)
            user_id = user or f"u{self.chosen.randrange(30)}"
            event = Interaction(
                event_id=f"e{self.offset}",
                event_type=kind,
                user_id=user_id,
                item_id=None if kind == "search" else f"i{self.chosen.randrange(20)}",
                timestamp=now - self.chosen.randrange(1_800_000),
                received_at=now,
            )
            made.append(
                StreamInteraction(f"t:{sum(user_id.encode()) % PARTITIONS}", self.offset, event)
            )
        return made

    def archive(self, records: Sequence[StreamInteraction]) -> None:
        """Write the events to the lake."""
        rows, offsets = [], dict[Source, int]()
        for source, offset, event in records:
            partition = Source("interactions.v1", "t", int(source[2:]))
            offsets[partition] = offset
            rows.append(interaction_row(Message(partition, offset, event.user_id, event, "")))
        self.lake.applied_offsets(INTERACTIONS, list(offsets))
        self.lake.append(INTERACTIONS, as_table(INTERACTIONS, rows), offsets)

    def take(self, records: Sequence[StreamInteraction]) -> None:
        """Apply the events online, and write them to the lake."""
        self.store.apply(records)
        self.archive(records)

    def take_entries(self, *entries: CatalogRecord) -> None:
        """Apply catalogue records, links and erasures online, and write them to the lake."""
        partition = Source("catalog.v1", "c", 0)
        for entry in entries:
            self.offset += 1
            if entry.deleted:
                ends = {f"t:{number}": self.offset for number in range(PARTITIONS)}
                cut = {"interactions.v1": ends, "catalog.v1": {"c:0": self.offset}}
                entry = entry.model_copy(update={"cut": cut})
            record = StreamCatalogRecord("c:0", self.offset, entry)
            if entry.entity == "identity":
                self.store.link([record])
            elif entry.entity == "user" and entry.deleted:
                self.store.erase(record)
            else:
                self.store.put_catalog([record])
            row = catalog_row(Message(partition, self.offset, entry.entity_id, entry, ""))
            self.lake.append(CATALOG, as_table(CATALOG, [row]), {partition: self.offset})

    def wipe(self) -> None:
        """Delete every key of the online store."""
        keys = [
            *self.redis.scan_iter(f"{self.settings.namespace}:*"),
            *self.redis.scan_iter(f"{{{self.settings.namespace}:*"),
        ]
        self.redis.delete(*keys)

    def held(self) -> dict[str, Any]:
        """The states of visitors and items, the lists of demand and the catalogue's entries."""
        names = [f"u{n}" for n in range(30)] + ["anonymous", "ada", "erased"]
        items = [f"i{n}" for n in range(20)]
        return {
            "visitors": {name: self.store.visitor(name) for name in names},
            "items": dict(zip(items, self.store.items(items), strict=True)),
            "demand": {
                window: dict(self.store.trending(50, window)) for window in ("", *POPULAR_WINDOWS)
            },
            "catalog": sorted(
                (record.entity_id, record.timestamp, record.appeared_at)
                for _, _, record in self.store.catalog_items()
            ),
        }

    def backfill(self, output: Path | None = None) -> BackfillReport:
        """Rebuild the online store from the lake, and write training rows where asked."""
        return backfill(self.settings, BackfillRequest(output=output, settle_s=0), lambda _: None)


def assert_same(held: dict[str, Any], due: dict[str, Any]) -> None:
    """Assert that two results of `Shop.held` agree, up to rounding and the order of arrival."""
    for name, state in due["visitors"].items():
        assert without_order(held["visitors"][name]) == without_order(state), name
    for name, state in due["items"].items():
        assert_same_item(held["items"][name], state, name)
    for window, wanted in due["demand"].items():
        found = held["demand"][window]
        assert found.keys() == wanted.keys(), window
        assert all(like(worth, wanted[name]) for name, worth in found.items()), window
    assert held["catalog"] == due["catalog"]


def assert_same_item(held: ItemState, due: ItemState, name: str) -> None:
    """Assert that an item's states agree, up to rounding."""
    assert (held.counts, held.hours, held.days) == (due.counts, due.hours, due.days), name
    # A visitor without a state may have made a pair that history does not make; its record
    # stays noted.
    assert all(held.applied[source] >= offset for source, offset in due.applied.items()), name
    assert (held.first_seen, held.last_seen) == (due.first_seen, due.last_seen)
    assert like(held.mass, due.mass)
    assert held.neighbours.keys() == due.neighbours.keys()
    for neighbour, mass in held.neighbours.items():
        assert abs(mass - due.neighbours[neighbour]) <= 50, "beyond rounding"


def without_order(state: VisitorState | None) -> Any:
    """A state without the order in which its parts came."""
    if state is None:
        return None
    merged = {name: dict(offsets) for name, offsets in state.merged.items() if offsets}
    tiles = [tiles for tiles in state.tiles if tiles.counts]
    return (
        state.sequence,
        dict(state.counts),
        state.first_seen,
        state.last_seen,
        state.applied,
        state.recent,
        tiles,
        merged,
        state.impressions,
    )


def all_records(lake: Lake) -> list[StreamInteraction]:
    """The interactions of the lake in the order of their offsets."""
    records = stream_interactions(lake.read(INTERACTIONS, columns=FOLDED_COLUMNS).to_pydict())
    return sorted(records, key=lambda record: record.offset)
