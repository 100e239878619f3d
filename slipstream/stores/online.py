"""Online store: states of visitors and items, trending items, and the catalogue, in Redis.

Every state is read, folded here, and replaced by a script that refuses when another writer has
replaced it meanwhile. The state says which records it holds, so a record that is read twice, by one
consumer or by two, counts once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.positions import Position, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import DAY_MS
from slipstream.features.identity import is_proven, linked_user
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.catalog_store import CatalogEntries
from slipstream.stores.catalog_store import CatalogPut as CatalogPut
from slipstream.stores.checkpoints import CheckpointMove as CheckpointMove
from slipstream.stores.checkpoints import (
    Checkpoints,
    DurabilityQuestions,
    ErasureMarks,
    Lineages,
    Span,
)
from slipstream.stores.checkpoints import Durability as Durability
from slipstream.stores.checkpoints import Lineage as Lineage
from slipstream.stores.connection import Scripts, connect, on_servers, server_facts, translated
from slipstream.stores.connection import StoreFormatError as StoreFormatError
from slipstream.stores.connection import StoreUnavailableError as StoreUnavailableError
from slipstream.stores.erasing import VisitorErasures
from slipstream.stores.folding import TRENDING_KEPT as TRENDING_KEPT
from slipstream.stores.folding import Items, TrendingList, Visitors, contributions
from slipstream.stores.layout import Keys
from slipstream.stores.online_reader import OnlineReader as OnlineReader
from slipstream.stores.online_reader import VisitorValue as VisitorValue
from slipstream.stores.redis_server import RedisMemory, redis_memory, refuse_cluster
from slipstream.stores.visitor_values import (
    MOST_HOPS,
    WITHOUT_EFFECT,
    Content,
    Merges,
    VisitorValues,
    state_to_read,
    to_read,
)

_CHUNK: Final = 500


@dataclass(slots=True)
class LinkResult:
    """Result of identity records.

    Attributes:
        changed: the users with a changed state.
        outcomes: the number of records by `LinkOutcome`, of "invalid" ones, and of "erased" ones:
            of a user that was erased since, and the visitor with it.
        without_effect: the positions of pages' records that linked no visitor. A refused record
            may find its visitor linked by a later record when it is read again.
    """

    changed: dict[str, VisitorState] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    without_effect: set[Position] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Retention:
    """Times to live, and the half-life of trends.

    A visitor or item is dropped when no event came for its time to live, a user's traits when no
    record of theirs came. With the traits Redis forgets that a server has named the user, whom no
    page may change or link. So they are kept far longer than a visitor.
    """

    visitor_ttl_ms: int = 90 * DAY_MS
    item_ttl_ms: int = 180 * DAY_MS
    trending_half_life_ms: float = float(DAY_MS)
    user_ttl_ms: int = 730 * DAY_MS


class OnlineStore:
    """The writing side, for the features consumer, and blocking reads.

    It connects on first use; one thread at a time may write. Methods raise `StoreUnavailableError`
    when Redis does not do what was asked; all writes can then be asked again.
    """

    def __init__(
        self, settings: RedisSettings, namespace: str, retention: Retention | None = None
    ) -> None:
        retention = retention or Retention()
        self._keys = keys = Keys(namespace)
        self._redis = client = connect(settings)
        self._scripts = scripts = Scripts(client, keys)
        values = VisitorValues(client, scripts, keys, retention.visitor_ttl_ms)
        self._merges = Merges(values)
        self._visitors = Visitors(values, self._merges)
        self._items = Items(client, scripts, keys, retention.item_ttl_ms)
        self._trending = TrendingList(
            client, scripts, keys, retention.trending_half_life_ms, retention.visitor_ttl_ms
        )
        self._catalog = CatalogEntries(client, scripts, keys, retention.user_ttl_ms)
        self.erasures = VisitorErasures(values, self._merges, self._catalog, self._trending)
        self.marks = ErasureMarks(client, keys)
        self._checkpoints = Checkpoints(scripts, keys)
        self._lineages = Lineages(scripts, keys)
        self._durability = DurabilityQuestions(settings, keys)

    @property
    def lost_races(self) -> int:
        """The number of times that another writer was faster, since the start."""
        return self._scripts.lost_races

    def apply(self, records: Sequence[StreamInteraction]) -> dict[str, VisitorState]:
        """Fold interactions into visitors, items and trending, each at most once.

        Records of one source come in the order of their offsets. Returns the visitors that changed,
        with their new state; records applied before change none.
        """
        changed: dict[str, VisitorState] = {}
        todo: Sequence[StreamInteraction] = records
        with translated():
            while todo:
                groups: dict[str, list[StreamInteraction]] = {}
                for record in todo:
                    groups.setdefault(record.interaction.user_id, []).append(record)
                updates = self._visitors.fold(groups)
                pairs = {
                    (record.source, record.offset): made
                    for update in updates.values()
                    for record, made in zip(update.records, update.pairs, strict=True)
                    if made
                }
                if pairs and any(update.state.merged for update in updates.values()):
                    # Another consumer may have written what these pairs follow from just now.
                    self._scripts.settle()
                # Items come first. After a crash between the two, the visitors are as before and
                # make the same pairs again, which the items already hold.
                self._items.fold(contributions(todo, pairs))
                if pairs:
                    self._scripts.settle()
                lost = self._visitors.write(updates)
                changed |= {end: update.state for end, update in updates.items() if end not in lost}
                todo = [record for end in lost for record in updates[end].records]
            self._trending.add(records)
        return changed

    def link(self, records: Sequence[StreamCatalogRecord], *, judged: bool = False) -> LinkResult:
        """Merge visitors into users as `identity` records say, each once, in any order.

        `judged` records have the right to their effect, as those of history do.
        """
        result = LinkResult()
        links = [(linked_user(each.record.attributes), each) for each in records]
        valid = [
            (each.record.entity_id, to, is_proven(each.record), each) for to, each in links if to
        ]
        result.outcomes["invalid"] = len(links) - len(valid)
        with translated():
            done = self._merges.are_done([link[:3] for link in valid])
            result.outcomes["known"] = sum(done)
            todo = [link for link, already in zip(valid, done, strict=True) if not already]
            for visitor_id, user_id, proven, (source, offset, record) in todo:
                if self.erasures.take_link(visitor_id, user_id, Position(source, offset)):
                    result.outcomes["erased"] += 1
                    continue
                doubtful = record.by_browser and not judged
                outcome, changed = self._merges.link(
                    visitor_id,
                    user_id,
                    only_anonymous=doubtful,
                    is_user=doubtful and self._catalog.said_by_server(visitor_id),
                    proven=proven,
                )
                result.outcomes[outcome] += 1
                result.changed |= changed
                if record.by_browser and outcome in WITHOUT_EFFECT:
                    result.without_effect.add(Position(source, offset))
                elif proven:
                    result.changed |= self._merges.lead_apart(visitor_id, user_id)
        return result

    def erase(self, record: StreamCatalogRecord) -> list[str]:
        """Erase a user and its members up to the record's cut. Returns all their ids.

        Each record erases once, so that reading it again does not take what came after it.
        """
        return self.erasures.erase(record)

    def put_catalog(self, records: Sequence[StreamCatalogRecord]) -> CatalogPut:
        """Keep each record, unless a newer one of its entity is kept; deletions as tombstones.

        Patches are merged into their items.
        """
        if not records:
            return CatalogPut()
        with translated():
            return self._catalog.put(records)

    def visitor(self, user_id: str) -> VisitorState | None:
        """The state of the visitor, or of the user that the visitor is proven to be, or None."""
        contents: dict[str, Content] = {}
        further = {user_id}
        with translated():
            while further and len(contents) <= MOST_HOPS:
                for visitor_id in further:
                    value = self._redis.get(self._keys.visitor(visitor_id))
                    contents[visitor_id] = layout.decode_visitor_or_marker(value) if value else None
                further = to_read(contents)
        return state_to_read(contents, user_id)

    def items(self, item_ids: Sequence[str]) -> list[ItemState | None]:
        """The items' states, in the order asked."""
        states: list[ItemState | None] = []
        with translated():
            for start in range(0, len(item_ids), _CHUNK):
                values = self._redis.mget(
                    [self._keys.item(item_id) for item_id in item_ids[start : start + _CHUNK]]
                )
                states += [layout.decode_item(value) if value else None for value in values]
        return states

    def catalog_items(self) -> Iterator[StreamCatalogRecord]:
        """The catalogue's items, each once, in no order.

        Entries that change meanwhile may be missed. A deleted item comes as its tombstone for as
        long as that is kept. So a reader that still has the item from elsewhere, such as a model,
        learns that it is gone.
        """
        with translated():
            yield from self._catalog.items()

    def trending(self, n: int, window: str = "") -> list[tuple[str, float]]:
        """The `n` heaviest items, highest first, with their weight at the newest event.

        With a window, a key of `POPULAR_WINDOWS`, they are its popular items.
        """
        with translated():
            return self._trending.top(n, window)

    def watermark(self) -> int:
        """The newest event time that was applied, in ms; 0 when there is none."""
        with translated():
            return self._trending.watermark()

    def ping(self) -> None:
        """Return when Redis answers, each of its nodes; else raise `StoreUnavailableError`."""
        with translated():
            on_servers(self._redis, lambda client: client.ping())

    def held(self) -> bool:
        """Whether a rebuild asks that nothing be applied (see `slipstream.stores.rebuild`)."""
        with translated():
            return bool(self._redis.exists(self._keys.hold))

    def checkpoints(self, sources: Sequence[str]) -> dict[str, int]:
        """The next offset of each of these sources before which Redis has every effect.

        A source is left out when Redis knows nothing of it.
        """
        with translated():
            return self._checkpoints.read(sources)

    def advance(self, moves: Mapping[str, CheckpointMove]) -> bool:
        """Move checkpoints, by source, on: all effects before them were applied.

        Returns False, and moves none, when Redis has less than it had: it has lost writes.
        """
        with translated():
            return self._checkpoints.advance(moves)

    def follow(self, spans: Mapping[str, Sequence[Span]]) -> dict[str, Lineage]:
        """Note, by source, which records are about to be applied; returns where their logs parted
        from what was applied of them.

        On a cluster the notes are settled: states outlive no note of what they hold.
        """
        with translated():
            lineages = self._lineages.follow(spans)
            if any(spans.values()):
                self._scripts.settle()
            return lineages

    def durability(self, offsets: Mapping[str, int]) -> Durability:
        """Wait, up to some seconds, until the effects before these offsets are durable.

        Another thread than the writer's may ask, one at a time.
        """
        return self._durability.ask(offsets)

    def memory(self) -> RedisMemory:
        """The memory of Redis; of a cluster's fullest node.

        Raises `RefusedSettingsError` when Redis would evict keys, or is a node of a cluster but its
        URL is that of one server.
        """
        with translated():
            servers = on_servers(self._redis, server_facts)
        for name, facts in servers.items():
            if not name:
                refuse_cluster(facts)
        return max((redis_memory(facts) for facts in servers.values()), key=RedisMemory.share)

    def close(self) -> None:
        self._redis.close()
        self._durability.close()
