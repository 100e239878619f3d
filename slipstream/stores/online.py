"""The online store: Redis, or anything that speaks its protocol.

Every state is read, folded here and replaced by a script that refuses when somebody else replaced
it meanwhile; the state itself says which records it holds. So a record that is read twice, by one
consumer or by two, counts once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Position, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay, item
from slipstream.features.applied import advance
from slipstream.features.covisits import Covisit
from slipstream.features.identity import named
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts, connect, translated
from slipstream.stores.connection import StoreUnavailableError as StoreUnavailableError
from slipstream.stores.decoded import Decoded
from slipstream.stores.layout import Keys, TrendingState
from slipstream.stores.online_reader import OnlineReader as OnlineReader
from slipstream.stores.visitors import MOST_HOPS, Visitors, as_read, further_of

log = get_logger(__name__)

TRENDING_KEPT: Final = 10_000
# A deletion is kept for so long, so that an older upsert that is read again does not bring the
# entry back.
TOMBSTONE_TTL_MS: Final = 30 * DAY_MS
# What was written lately is read again soon: so many items need not be decoded then (about 4 KB
# each).
_ITEMS_REMEMBERED: Final = 10_000
_CHUNK: Final = 500


class ItemContribution(NamedTuple):
    """A record's share in an item's state: the event if it is on that item, and co-visited pairs."""

    source: str
    offset: int
    event: Interaction | None
    pairs: list[Covisit]


@dataclass(slots=True)
class Linked:
    """What identity records have done: the users whose state has changed, how many records came to
    what (`LinkOutcome`), and the visitors who were merged into a user that has been erased since,
    with the time of that.
    """

    changed: dict[str, VisitorState] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    erased: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept, and how fast trends pass. A visitor or item goes when no event came
    for its time to live.
    """

    visitor_ttl_ms: int = 90 * DAY_MS
    item_ttl_ms: int = 180 * DAY_MS
    trending_half_life_ms: float = float(DAY_MS)


class OnlineStore:
    """The writing side, for the features consumer, and blocking reads. Connects on first use; one
    thread at a time may write.

    Methods raise `StoreUnavailableError` when Redis does not do what was asked; all writes can then
    be asked again.
    """

    def __init__(
        self, settings: RedisSettings, namespace: str, retention: Retention | None = None
    ) -> None:
        retention = retention or Retention()
        self._keys = Keys(namespace)
        self._half_life_ms = retention.trending_half_life_ms
        self._item_ttl_ms = retention.item_ttl_ms
        self._redis = connect(settings)
        self._scripts = Scripts(self._redis)
        self._items = Decoded(layout.decode_item, _ITEMS_REMEMBERED)
        self._visitors = Visitors(self._redis, self._scripts, self._keys, retention.visitor_ttl_ms)

    @property
    def lost_races(self) -> int:
        """How often another writer was faster, since the start."""
        return self._scripts.lost_races

    def apply(self, records: Sequence[StreamInteraction]) -> dict[str, VisitorState]:
        """Fold interactions into visitors, items and trending, each at most once. Records of one
        source in order of offsets.

        Returns the visitors that changed, with their new state; those of records applied before are
        not among them.
        """
        changed: dict[str, VisitorState] = {}
        todo: Sequence[StreamInteraction] = records
        with translated():
            while todo:
                groups: dict[str, list[StreamInteraction]] = {}
                for record in todo:
                    groups.setdefault(record.interaction.user_id, []).append(record)
                folded = self._visitors.fold(groups)
                told = {
                    Position(record.source, record.offset): pairs
                    for one in folded.values()
                    for record, pairs in zip(one.records, one.pairs, strict=True)
                    if pairs
                }
                # Items come first. Stopped after them, the visitors are as before, tell the same
                # pairs again, and the items know.
                self._fold_items(_by_item(todo, told))
                lost = self._visitors.write(folded)
                changed |= {end: one.state for end, one in folded.items() if end not in lost}
                todo = [record for end in lost for record in folded[end].records]
            self._add_trending(records)
        return changed

    def link(self, records: Sequence[StreamCatalogRecord]) -> Linked:
        """Merge visitors into the users that they are, as `identity` records say: each once, in
        whatever order they come.
        """
        linked = Linked()
        links = [(record.entity_id, named(record.attributes), record) for _, _, record in records]
        valid = [
            (visitor_id, user_id, record)
            for visitor_id, user_id, record in links
            if user_id is not None
        ]
        linked.outcomes["invalid"] = len(links) - len(valid)
        with translated():
            known = self._visitors.known_links(
                [(visitor_id, user_id) for visitor_id, user_id, _ in valid]
            )
            linked.outcomes["known"] = sum(known)
            for (visitor_id, user_id, record), already in zip(valid, known, strict=True):
                if already:
                    continue
                erased_at = self._erased_at(user_id)
                forget = erased_at is not None and record.timestamp <= erased_at
                outcome, changed = self._visitors.link(visitor_id, user_id, forget=forget)
                linked.outcomes[outcome] += 1
                linked.changed |= changed
                if erased_at is not None and forget:
                    linked.erased.append((visitor_id, erased_at))
        return linked

    def erase(self, record: StreamCatalogRecord) -> list[str]:
        """Forget a user, and all visitors who were merged into it: their states, and what the
        catalogue says of them. Who they were. Once for each record, so that reading it again does
        not take what came after it.
        """
        source, offset, entry = record
        with translated():
            members = self._visitors.erase(entry.entity_id, source, offset)
            tombstone = entry.model_copy(update={"attributes": {}, "deleted": True})
            self._put(
                [
                    StreamCatalogRecord(
                        source, offset, tombstone.model_copy(update={"entity_id": member})
                    )
                    for member in members
                ]
            )
        return members

    def put_catalog(self, records: Sequence[StreamCatalogRecord]) -> None:
        """Keep each record as its entity's newest, unless a newer one is kept. A deleted entity's
        entry becomes a tombstone.
        """
        with translated():
            self._put(records)

    def visitor(self, user_id: str) -> VisitorState | None:
        """The state of the user whom a visitor is known to be, else of the visitor; None when never
        seen, or not for as long as states are kept.
        """
        known: dict[str, VisitorState | layout.Moved | None] = {}
        further = {user_id}
        with translated():
            while further and len(known) <= MOST_HOPS:
                for one in further:
                    value = self._redis.get(self._keys.visitor(one))
                    known[one] = layout.decode_known(value) if value else None
                further = further_of(known.values()) - known.keys()
        return as_read(known, user_id)

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

    def catalog_items(self) -> Iterator[CatalogRecord]:
        """The catalogue's items, each once, in no order; entries that change meanwhile may be
        missed.

        A deleted item comes as its tombstone for as long as that is kept, so that a reader which
        still has the item from elsewhere (a model, say) learns that it is gone.
        """
        with translated():
            cursor, seen = -1, set[bytes]()
            while cursor != 0:
                cursor, ids = self._redis.sscan(
                    self._keys.catalog_index("item"), cursor=max(cursor, 0), count=_CHUNK
                )
                fresh = [item_id for item_id in ids if item_id not in seen]
                seen.update(fresh)
                pipeline = self._redis.pipeline(transaction=False)
                for item_id in fresh:
                    pipeline.hget(self._keys.catalog("item", item_id.decode()), "record")
                for value in pipeline.execute():
                    record = layout.decode_catalog(value)
                    if record is not None:
                        yield record

    def trending(self, n: int) -> list[tuple[str, float]]:
        """The `n` items with the most weight lately, highest first; the weight is as it was at the
        newest event.
        """
        with translated():
            scores = self._redis.zrevrange(self._keys.trending_scores, 0, n - 1, withscores=True)
            return layout.worth(scores, self._redis.get(self._keys.trending)) if n > 0 else []

    def watermark(self) -> int:
        """The newest event time that was applied, in ms; 0 when there is none."""
        with translated():
            value = self._redis.get(self._keys.trending)
        return layout.decode_trending(value).newest if value else 0

    def ping(self) -> None:
        """Return when Redis answers; raise `StoreUnavailableError` when it does not."""
        with translated():
            self._redis.ping()

    def held(self) -> bool:
        """Whether a rebuild asks that nothing be applied for a moment (see
        `slipstream.stores.rebuild`).
        """
        with translated():
            return bool(self._redis.exists(self._keys.hold))

    def restarted(self) -> bool:
        """Whether this is not the server that was written to, or it has restarted since. It may
        then have lost what was written last, so read that again; the next write begins anew.
        """
        with translated():
            return self._scripts.restarted()

    def close(self) -> None:
        self._redis.close()

    def _fold_items(self, groups: Mapping[str, list[ItemContribution]]) -> None:
        """Compare-and-set each item's state; those that lost a race are read and folded again."""
        pending = list(groups)
        while pending:
            keys = [self._keys.item(item_id) for item_id in pending]
            values = self._redis.mget(keys)
            calls, item_ids = list[Call](), list[str]()
            for item_id, key, value in zip(pending, keys, values, strict=True):
                try:
                    state = self._items.state(key, value) if value else None
                except layout.LayoutError as error:
                    log.error(
                        "a state can't be read; its records are left out",
                        item=item_id,
                        reason=str(error),
                    )
                    continue
                applied, fresh = advance(state.applied if state else {}, groups[item_id])
                if not fresh:
                    continue
                events = [brought.event for brought in fresh if brought.event is not None]
                state = item.fold_all(
                    state, events, [pair for brought in fresh for pair in brought.pairs]
                )
                state.applied = applied
                revision = layout.new_revision()
                calls.append(
                    Call(
                        [key],
                        [
                            layout.revision_of(value),
                            layout.encode_item(state, revision),
                            self._item_ttl_ms,
                        ],
                    )
                )
                self._items.remember(key, revision, state)
                item_ids.append(item_id)
            done = self._scripts.replace(calls)
            pending = [item_id for item_id, ok in zip(item_ids, done, strict=True) if not ok]

    def _add_trending(self, records: Sequence[StreamInteraction]) -> None:
        while records:
            value = self._redis.get(self._keys.trending)
            try:
                state = (
                    layout.decode_trending(value)
                    if value
                    else TrendingState(half_life_ms=self._half_life_ms)
                )
            except layout.LayoutError as error:
                log.error(
                    "the trending state can't be read; records are left out", reason=str(error)
                )
                return
            applied, placed = advance(state.applied, records)
            if not placed:
                return
            fresh = [record.interaction for record in placed]
            masses: dict[str, float | None] = {}
            for event in fresh:
                if event.item_id is not None:
                    masses[event.item_id] = decay.add(
                        masses.get(event.item_id),
                        signal_weight(event.event_type),
                        event.timestamp,
                        self._half_life_ms,
                    )
            newest = max(state.newest, max(event.timestamp for event in fresh))
            after = layout.encode_trending(
                TrendingState(applied, newest, self._half_life_ms), layout.new_revision()
            )
            arguments: list[Any] = [
                layout.revision_of(value),
                after,
                TRENDING_KEPT,
                int(state.half_life_ms != self._half_life_ms),
            ]
            for item_id, mass in masses.items():
                if mass is not None:
                    arguments += [item_id, repr(mass)]
            if self._scripts.run(
                "trending", [Call([self._keys.trending, self._keys.trending_scores], arguments)]
            )[0]:
                return
            self._scripts.lost_races += 1

    def _put(self, records: Sequence[StreamCatalogRecord]) -> None:
        self._index([r.record for r in records])
        self._scripts.run(
            "put_newer",
            [
                Call(
                    [self._keys.catalog(record.entity, record.entity_id)],
                    [
                        record.model_dump_json(),
                        record.timestamp,
                        source,
                        offset,
                        TOMBSTONE_TTL_MS if record.deleted else 0,
                    ],
                )
                for source, offset, record in records
            ],
        )

    def _index(self, records: Sequence[CatalogRecord]) -> None:
        """Put ids into the set of all ids, which is only an index, in another slot than the
        entries: so before them. An id stays in it when its tombstone has expired, and is skipped
        then.
        """
        ids: dict[str, list[str]] = {}
        for record in records:
            ids.setdefault(record.entity, []).append(record.entity_id)
        for entity, members in ids.items():
            self._redis.sadd(self._keys.catalog_index(entity), *members)

    def _erased_at(self, user_id: str) -> int | None:
        record = layout.decode_catalog(
            self._redis.hget(self._keys.catalog("user", user_id), "record")
        )
        return record.timestamp if record is not None and record.deleted else None


def _by_item(
    records: Iterable[StreamInteraction], told: Mapping[Position, list[Covisit]]
) -> dict[str, list[ItemContribution]]:
    """What each item is brought, in the order of the records, one entry a record, which pairs its
    item with another once.
    """
    groups: defaultdict[str, list[ItemContribution]] = defaultdict(list)
    for source, offset, event in records:
        item_id = event.item_id
        if item_id is None:
            continue
        own: list[Covisit] = []
        groups[item_id].append(ItemContribution(source, offset, event, own))
        for pair in told.get(Position(source, offset), ()):
            if pair.item_id == item_id:
                own.append(pair)
            else:
                groups[pair.item_id].append(ItemContribution(source, offset, None, [pair]))
    return groups
