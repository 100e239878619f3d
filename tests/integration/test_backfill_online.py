"""The online store rebuilt from the lake, on the real server: as the stream left it, and while the
stream goes on.
"""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.features.history.backfill import Report, Request, backfill
from services.features.history.rows import as_table, catalog_row, interaction_row
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.broker.batch import Message
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores.connection import connect
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake
from slipstream.stores.online import OnlineStore
from slipstream.stores.rebuild import Rebuild
from tests.integration.shop_stream import events, send
from tests.integration.test_features_materializer import running, until
from tests.unit.features.placed_events import like

PARTITIONS = 3
KINDS = ("view", "view", "click", "cart", "purchase", "search", "impression")


@dataclass
class Shop:
    """A stream without a broker: what comes is applied online at once, and is in the lake when it
    is told.
    """

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
        """The next events; a visitor's always in the same partition."""
        now, made = time.time_ns() // 1_000_000, []
        for _ in range(count):
            self.offset += 1
            kind, who = self.chosen.choice(KINDS), user or f"u{self.chosen.randrange(30)}"
            event = Interaction(
                event_id=f"e{self.offset}",
                event_type=kind,
                user_id=who,
                item_id=None if kind == "search" else f"i{self.chosen.randrange(20)}",
                timestamp=now - self.chosen.randrange(1_800_000),
                received_at=now,
            )
            made.append(
                StreamInteraction(f"t:{sum(who.encode()) % PARTITIONS}", self.offset, event)
            )
        return made

    def archive(self, records: Sequence[StreamInteraction]) -> None:
        rows, offsets = [], dict[Source, int]()
        for source, offset, event in records:
            place = Source("interactions.v1", "t", int(source[2:]))
            offsets[place] = offset
            rows.append(interaction_row(Message(place, offset, event.user_id, event, "")))
        self.lake.applied_offsets(INTERACTIONS, list(offsets))
        self.lake.append(INTERACTIONS, as_table(INTERACTIONS, rows), offsets)

    def take(self, records: Sequence[StreamInteraction]) -> None:
        self.store.apply(records)
        self.archive(records)

    def tell(self, *entries: CatalogRecord) -> None:
        """Catalogue records and identities, online and in the lake."""
        place = Source("catalog.v1", "c", 0)
        for entry in entries:
            self.offset += 1
            placed = StreamCatalogRecord("c:0", self.offset, entry)
            if entry.entity == "identity":
                self.store.link([placed])
            elif entry.entity == "user" and entry.deleted:
                self.lake.erase(self.store.erase(placed))
            else:
                self.store.put_catalog([placed])
            row = catalog_row(Message(place, self.offset, entry.entity_id, entry, ""))
            self.lake.append(CATALOG, as_table(CATALOG, [row]), {place: self.offset})

    def wipe(self) -> None:
        keys = [
            *self.redis.scan_iter(f"{self.settings.namespace}:*"),
            *self.redis.scan_iter(f"{{{self.settings.namespace}:*"),
        ]
        self.redis.delete(*keys)

    def held(self) -> dict[str, Any]:
        """All that the store answers."""
        names = [f"u{n}" for n in range(30)] + ["anonymous", "ada", "erased"]
        items = [f"i{n}" for n in range(20)]
        return {
            "visitors": {name: self.store.visitor(name) for name in names},
            "items": dict(zip(items, self.store.items(items), strict=True)),
            "trending": dict(self.store.trending(50)),
            "catalog": sorted(
                (record.entity_id, record.timestamp) for record in self.store.catalog_items()
            ),
        }

    def backfill(self, output: Path | None = None) -> Report:
        return backfill(
            self.settings, Request(output=output, settle_s=0), lambda _what, _done: None
        )


@pytest.fixture
def shop(redis_settings: RedisSettings, lake_settings: LakeSettings, namespace: str) -> Shop:
    return Shop(
        FeaturesSettings(
            redis=redis_settings,
            lake=lake_settings,
            namespace=namespace,
            features=FeaturesSection(),
        )
    )


def assert_same(found: dict[str, Any], due: dict[str, Any]) -> None:
    for name, state in due["visitors"].items():
        assert as_told(found["visitors"][name]) == as_told(state), name
    for name, state in due["items"].items():
        mine, its = found["items"][name], state
        assert (mine.counts, mine.hours, mine.days) == (its.counts, its.hours, its.days), name
        # A visitor whose state was gone may have told a pair that history does not tell; its record
        # stays noted.
        assert all(mine.applied[source] >= offset for source, offset in its.applied.items()), name
        assert (mine.first_seen, mine.last_seen) == (its.first_seen, its.last_seen)
        assert like(mine.mass, its.mass)
        assert_neighbours(mine, its)
    assert found["trending"].keys() == due["trending"].keys()
    assert all(like(worth, due["trending"][name]) for name, worth in found["trending"].items())
    assert found["catalog"] == due["catalog"]


def assert_neighbours(mine: ItemState, its: ItemState) -> None:
    assert mine.neighbours.keys() == its.neighbours.keys()
    assert all(abs(mass - its.neighbours[name]) <= 50 for name, mass in mine.neighbours.items()), (
        "beyond rounding"
    )


def as_told(state: VisitorState | None) -> Any:
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
    )


def identity(visitor: str, user: str) -> CatalogRecord:
    now = time.time_ns() // 1_000_000
    return CatalogRecord(
        entity="identity", entity_id=visitor, attributes={MERGED_INTO: user}, timestamp=now
    )


def test_a_wiped_store_is_rebuilt_as_the_stream_left_it(shop: Shop, tmp_path: Path) -> None:
    shop.take(shop.events(300))
    shop.take(shop.events(15, "anonymous"))
    shop.tell(
        CatalogRecord(entity="item", entity_id="i1", attributes={"category": "shoes"}, timestamp=5)
    )
    time.sleep(0.01)
    shop.tell(identity("anonymous", "ada"))
    for records in (shop.events(10, "anonymous"), shop.events(10, "ada"), shop.events(100)):
        time.sleep(
            0.005
        )  # received in another millisecond: partitions have no order among each other but that
        shop.take(
            [
                r._replace(interaction=r.interaction.model_copy(update={"received_at": _now()}))
                for r in records
            ]
        )
    due = shop.held()
    assert due["visitors"]["anonymous"] == due["visitors"]["ada"] is not None
    shop.wipe()
    assert shop.store.visitor("u1") is None
    report = shop.backfill(tmp_path / "rows")
    assert (report.complete, report.interactions, report.items) == (True, 435, 20)
    assert_same(shop.held(), due)
    rows = pq.read_table(tmp_path / "rows" / "part-00000.parquet")
    assert rows.num_rows == report.rows > 300 and "anonymous" not in rows["user_id"].to_pylist()
    later = shop.events(5, "anonymous")
    shop.take(later)
    ada = shop.store.visitor("ada")
    assert ada is not None and sum(ada.counts.values()) == 40, (
        "the rebuilt marker leads on, and offsets go on"
    )
    shop.store.apply(later)
    assert shop.store.visitor("ada") == ada


def test_what_was_erased_does_not_come_back(shop: Shop) -> None:
    shop.take(shop.events(10, "erased") + shop.events(20))
    shop.tell(
        CatalogRecord(
            entity="user", entity_id="erased", deleted=True, timestamp=time.time_ns() // 1_000_000
        )
    )
    shop.wipe()
    assert shop.backfill().complete
    assert shop.store.visitor("erased") is None
    shop.take(shop.events(3, "erased"))
    shop.wipe()
    shop.backfill()
    back = shop.store.visitor("erased")
    assert back is not None and sum(back.counts.values()) == 3


def test_rebuilding_twice_changes_nothing(shop: Shop) -> None:
    shop.take(shop.events(200))
    due = shop.held()
    assert shop.backfill().complete and shop.backfill().complete
    assert_same(shop.held(), due)


def test_a_state_that_is_ahead_of_the_lake_is_left_until_the_lake_has_come_to_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.history.catch_up.HOLD_S", 0.2)
    monkeypatch.setattr("services.features.history.catch_up.ROUNDS", 1)
    shop.take(shop.events(100) + shop.events(5, "u1"))
    waiting = shop.events(4, "u1")
    shop.store.apply(waiting)
    due = shop.held()
    report = shop.backfill()
    assert report.visitors_left == 1 and report.items_left >= 1 and report.trending_left
    assert_same(shop.held(), due)
    shop.archive(waiting)
    assert shop.backfill().complete
    assert_same(shop.held(), due)


@pytest.mark.parametrize("cooperative", [True, False])
def test_a_backfill_beside_the_stream_loses_and_doubles_nothing(
    shop: Shop, cooperative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is wiped, and rebuilt while events go on; the stream reaches the lake half a second
    late. A consumer that does not hold when it is asked makes it slower, not wrong.
    """
    if not cooperative:
        monkeypatch.setattr("services.features.history.catch_up.HOLD_S", 2.0)
    shop.take(shop.events(600))
    shop.wipe()
    stop = threading.Event()
    failures: list[BaseException] = []

    def stream() -> None:
        late: list[tuple[float, list[StreamInteraction]]] = []
        try:
            while not stop.is_set() or late:
                if not stop.is_set() and not (cooperative and shop.store.held()):
                    records = shop.events(6)
                    shop.store.apply(records)
                    late.append((time.monotonic() + 0.5, records))
                while late and (stop.is_set() or late[0][0] <= time.monotonic()):
                    shop.archive(late.pop(0)[1])
                time.sleep(0.02)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=stream)
    thread.start()
    time.sleep(0.5)
    first = shop.backfill()
    time.sleep(0.3)
    stop.set()
    thread.join()
    assert failures == []
    if cooperative:
        assert first.complete
    else:
        assert shop.backfill().complete
    found = shop.held()
    shop.wipe()
    fresh = Shop(shop.settings)
    records = _all_records(shop.lake)
    fresh.store.apply(records)
    assert_same(found, fresh.held())


def _now() -> int:
    return time.time_ns() // 1_000_000


def _all_records(lake: Lake) -> list[StreamInteraction]:
    from services.features.history.rows import FOLDED_COLUMNS, placed

    records = placed(lake.read(INTERACTIONS, columns=FOLDED_COLUMNS).to_pydict())
    return sorted(records, key=lambda record: record.offset)


def test_the_features_service_holds_while_it_is_asked_and_the_lake_comes_to_where_it_is(
    broker: KafkaSettings, shop: Shop
) -> None:
    settings = shop.settings.model_copy(
        update={"kafka": broker, "features": FeaturesSection(lake_flush_s=0.2)}
    )
    asking = Rebuild(settings.redis, settings.namespace, settings.retention(), lambda _source: -1)
    with running(settings) as features:
        send(features.producer, events(100))
        until(lambda: features.lake.count(INTERACTIONS) == 100)
        asking.hold(30)
        time.sleep(1.0)
        send(features.producer, events(50, first=100))
        time.sleep(1.0)
        assert features.lake.count(INTERACTIONS) == 100
        assert (
            sum(shop.lake.applied_offsets(INTERACTIONS, [s])[s] + 1 for s in _sources(asking))
            == 100
        )
        asking.release()
        features.settle()
        assert features.lake.count(INTERACTIONS) == 150
    asking.close()
    assert backfill(settings, Request(settle_s=0), lambda _what, _done: None).complete


def _sources(rebuild: Rebuild) -> list[Source]:
    places = [source.rpartition(":") for source in rebuild.trending_applied()]
    return [
        Source("interactions.v1", topic_id, int(partition)) for topic_id, _, partition in places
    ]
