"""The online store: Redis, or anything that speaks its protocol. The only user of its client.

Every state is read, folded here and replaced by a script that refuses when somebody else replaced it meanwhile; the state
itself says which records it holds. So a record that is read twice, by one consumer or by two, counts once.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Generic, NamedTuple, TypeVar

import redis
import redis.asyncio
from redis.exceptions import RedisError

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay, item, visitor
from slipstream.features.applied import Placed, advance
from slipstream.features.item import ItemState
from slipstream.features.visitor import DAY_MS, VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import Keys, TrendingState

log = get_logger(__name__)

TRENDING_KEPT: Final = 10_000
#: A deletion is kept for so long, so that an older upsert that is read again does not bring the entry back.
TOMBSTONE_TTL_MS: Final = 30 * DAY_MS
_CHUNK: Final = 500

S = TypeVar("S", VisitorState, ItemState)


class StoreUnavailableError(Exception):
    """Redis is away, still loading, out of memory or read-only: nothing is known to be written; try again. Reads also raise it
    for a value that this version can't read."""


class PlacedCatalog(NamedTuple):
    """A catalogue record with its place in the stream."""

    source: str
    offset: int
    record: CatalogRecord


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept, and how fast trends pass. A visitor or item goes when no event came for its time to live."""

    visitor_ttl_ms: int = 90 * DAY_MS
    item_ttl_ms: int = 180 * DAY_MS
    trending_half_life_ms: float = float(DAY_MS)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[S]):
    """How one kind of state is read, folded and written."""

    key: Callable[[str], str]
    decode: Callable[[bytes], S]
    encode: Callable[[S, bytes], bytes]
    fold: Callable[[S | None, list[Interaction]], S]
    ttl_ms: int


class OnlineStore:
    """The writing side, for the features consumer, and blocking reads. Connects on first use; one thread at a time may write.

    Methods raise `StoreUnavailableError` when Redis does not do what was asked; all writes can then be asked again.
    """

    def __init__(self, settings: RedisSettings, namespace: str, retention: Retention | None = None) -> None:
        retention = retention or Retention()
        self._keys = Keys(namespace)
        self._half_life_ms = retention.trending_half_life_ms
        self._redis: Any = redis.Redis.from_url(  # its types say `bytes | str` everywhere
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            max_connections=settings.max_connections,
        )
        self._visitors = _Kind(
            self._keys.visitor, layout.decode_visitor, layout.encode_visitor, visitor.fold_all, retention.visitor_ttl_ms
        )
        self._items = _Kind(self._keys.item, layout.decode_item, layout.encode_item, item.fold_all, retention.item_ttl_ms)
        self._shas: dict[str, str] = {}
        #: how often another writer was faster, since the start
        self.lost_races = 0

    def apply(self, records: Sequence[Placed]) -> dict[str, VisitorState]:
        """Fold interactions into visitors, items and trending, each at most once. Records of one source in order of offsets.

        Returns the visitors that changed, with their new state; those of records applied before are not among them.
        """
        by_visitor: dict[str, list[Placed]] = {}
        by_item: dict[str, list[Placed]] = {}
        for record in records:
            by_visitor.setdefault(record.interaction.user_id, []).append(record)
            if record.interaction.item_id is not None:
                by_item.setdefault(record.interaction.item_id, []).append(record)
        with _translated():
            changed = self._fold_in(self._visitors, by_visitor)
            self._fold_in(self._items, by_item)
            self._add_trending(records)
        return changed

    def put_catalog(self, records: Sequence[PlacedCatalog]) -> None:
        """Keep each record as its entity's newest, unless a newer one is kept. A deleted entity's entry becomes a tombstone."""
        if not records:
            return
        with _translated():
            self._index([r.record for r in records])
            self._evaluate(
                "put_newer",
                [
                    (
                        [self._keys.catalog(record.entity, record.entity_id)],
                        [record.model_dump_json(), record.timestamp, source, offset, TOMBSTONE_TTL_MS if record.deleted else 0],
                    )
                    for source, offset, record in records
                ],
            )

    def visitor(self, user_id: str) -> VisitorState | None:
        """A visitor's state; None when never seen, or not for as long as states are kept."""
        with _translated():
            value = self._redis.get(self._keys.visitor(user_id))
            return layout.decode_visitor(value) if value else None

    def items(self, item_ids: Sequence[str]) -> list[ItemState | None]:
        """The items' states, in the order asked."""
        states: list[ItemState | None] = []
        with _translated():
            for start in range(0, len(item_ids), _CHUNK):
                values = self._redis.mget([self._keys.item(item_id) for item_id in item_ids[start : start + _CHUNK]])
                states += [layout.decode_item(value) if value else None for value in values]
        return states

    def catalog_items(self) -> Iterator[CatalogRecord]:
        """The catalogue's items, each once, in no order; entries that change meanwhile may be missed.

        A deleted item comes as its tombstone for as long as that is kept, so that a reader which still has the item from
        elsewhere (a model, say) learns that it is gone.
        """
        with _translated():
            cursor, seen = -1, set[bytes]()
            while cursor != 0:
                cursor, ids = self._redis.sscan(self._keys.catalog_index("item"), cursor=max(cursor, 0), count=_CHUNK)
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
        """The `n` items with the most weight lately, highest first; the weight is as it was at the newest event."""
        with _translated():
            scores = self._redis.zrevrange(self._keys.trending_scores, 0, n - 1, withscores=True)
            return _worth(scores, self._redis.get(self._keys.trending)) if n > 0 else []

    def watermark(self) -> int:
        """The newest event time that was applied, in ms; 0 when there is none."""
        with _translated():
            value = self._redis.get(self._keys.trending)
        return layout.decode_trending(value).newest if value else 0

    def ping(self) -> None:
        """Return when Redis answers; raise `StoreUnavailableError` when it does not."""
        with _translated():
            self._redis.ping()

    def restarted(self) -> bool:
        """Whether this is not the server that was written to, or it has restarted since: it no longer knows our scripts. It may
        then have lost what was written last, so read that again; the next write begins anew."""
        with _translated():
            known = all(self._redis.script_exists(*self._shas.values())) if self._shas else True
        if not known:
            self._shas.clear()
        return not known

    def close(self) -> None:
        self._redis.close()

    def _fold_in(self, kind: _Kind[S], groups: Mapping[str, list[Placed]]) -> dict[str, S]:
        """Compare-and-set each entity's state; those that lost a race are read and folded again."""
        changed: dict[str, S] = {}
        pending = list(groups)
        while pending:
            values = self._redis.mget([kind.key(entity_id) for entity_id in pending])
            writes: dict[str, S] = {}
            calls = []
            for entity_id, value in zip(pending, values, strict=True):
                try:
                    state = kind.decode(value) if value else None
                except layout.LayoutError as error:
                    # Folding from nothing would lose counts unseen, and stopping would hold up everybody else.
                    log.error("a state can't be read; its records are left out", key=kind.key(entity_id), reason=str(error))
                    continue
                applied, fresh = advance(state.applied if state else {}, groups[entity_id])
                if not fresh:
                    continue
                state = kind.fold(state, fresh)
                state.applied = applied
                writes[entity_id] = state
                encoded = kind.encode(state, layout.new_revision())
                calls.append(([kind.key(entity_id)], [layout.revision_of(value), encoded, kind.ttl_ms]))
            outcomes = self._evaluate("replace", calls)
            pending = [entity_id for entity_id, done in zip(writes, outcomes, strict=True) if not done]
            self.lost_races += len(pending)
            for entity_id in pending:
                del writes[entity_id]
            changed.update(writes)
        return changed

    def _add_trending(self, records: Sequence[Placed]) -> None:
        while True:
            value = self._redis.get(self._keys.trending)
            try:
                state = layout.decode_trending(value) if value else TrendingState(half_life_ms=self._half_life_ms)
            except layout.LayoutError as error:
                log.error("the trending state can't be read; records are left out", reason=str(error))
                return
            applied, fresh = advance(state.applied, records)
            if not fresh:
                return
            masses: dict[str, float | None] = {}
            for event in fresh:
                if event.item_id is not None:
                    masses[event.item_id] = decay.add(
                        masses.get(event.item_id), signal_weight(event.event_type), event.timestamp, self._half_life_ms
                    )
            newest = max(state.newest, max(event.timestamp for event in fresh))
            after = layout.encode_trending(TrendingState(applied, newest, self._half_life_ms), layout.new_revision())
            arguments: list[Any] = [
                layout.revision_of(value),
                after,
                TRENDING_KEPT,
                int(state.half_life_ms != self._half_life_ms),
            ]
            for item_id, mass in masses.items():
                if mass is not None:
                    arguments += [item_id, repr(mass)]
            if self._evaluate("trending", [([self._keys.trending, self._keys.trending_scores], arguments)])[0]:
                return
            self.lost_races += 1

    def _index(self, records: Sequence[CatalogRecord]) -> None:
        """Put ids into the set of all ids, which is only an index, in another slot than the entries: so before them. An id stays
        in it when its tombstone has expired, and is skipped then."""
        ids: dict[str, list[str]] = {}
        for record in records:
            ids.setdefault(record.entity, []).append(record.entity_id)
        for entity, members in ids.items():
            self._redis.sadd(self._keys.catalog_index(entity), *members)

    def _evaluate(self, name: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run a script for each (keys, arguments), in one pipeline. Fails once on a restarted server (see `restarted`)."""
        if not calls:
            return []
        sha = self._shas.get(name) or self._shas.setdefault(name, self._redis.script_load(_script(name)))
        pipeline = self._redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.execute_command("EVALSHA", sha, len(keys), *keys, *arguments)
        outcomes: list[Any] = pipeline.execute(raise_on_error=False)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None)
        if failed is not None:
            self._shas.clear()
            raise failed
        return outcomes


class OnlineReader:
    """The reads as coroutines, for request handlers. Made and used in one event loop.

    Methods raise `StoreUnavailableError` when Redis does not answer.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._keys = Keys(namespace)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            max_connections=settings.max_connections,
            timeout=settings.timeout_s,
        )
        self._redis: Any = redis.asyncio.Redis.from_pool(pool)

    async def visitor(self, user_id: str) -> VisitorState | None:
        """A visitor's state; None when never seen, or not for as long as states are kept."""
        return (await self.visitors([user_id]))[0]

    async def visitors(self, user_ids: Sequence[str]) -> list[VisitorState | None]:
        """The visitors' states, in the order asked."""
        values = await self._values([self._keys.visitor(user_id) for user_id in user_ids])
        with _translated():
            return [layout.decode_visitor(value) if value else None for value in values]

    async def items(self, item_ids: Sequence[str]) -> list[ItemState | None]:
        """The items' states, in the order asked."""
        values = await self._values([self._keys.item(item_id) for item_id in item_ids])
        with _translated():
            return [layout.decode_item(value) if value else None for value in values]

    async def states(
        self, user_ids: Sequence[str], item_ids: Sequence[str]
    ) -> tuple[list[VisitorState | None], list[ItemState | None]]:
        """Visitors' and items' states, in the orders asked, in one round trip."""
        keys = [self._keys.visitor(user_id) for user_id in user_ids] + [self._keys.item(item_id) for item_id in item_ids]
        values = await self._values(keys)
        with _translated():
            return (
                [layout.decode_visitor(value) if value else None for value in values[: len(user_ids)]],
                [layout.decode_item(value) if value else None for value in values[len(user_ids) :]],
            )

    async def catalog(self, item_ids: Sequence[str]) -> list[CatalogRecord | None]:
        """The items' catalogue records, in the order asked; a deleted item's says so."""
        if not item_ids:
            return []
        async with _translated_async():
            pipeline = self._redis.pipeline(transaction=False)
            for item_id in item_ids:
                pipeline.hget(self._keys.catalog("item", item_id), "record")
            values = await pipeline.execute()
        return [layout.decode_catalog(value) for value in values]

    async def trending(self, n: int) -> list[tuple[str, float]]:
        """The `n` items with the most weight lately, highest first; the weight is as it was at the newest event."""
        if n <= 0:
            return []
        async with _translated_async():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrevrange(self._keys.trending_scores, 0, n - 1, withscores=True)
            pipeline.get(self._keys.trending)
            scores, state = await pipeline.execute()
        return _worth(scores, state)

    async def ping(self) -> None:
        """A readiness check: returns when Redis answers."""
        async with _translated_async():
            await self._redis.ping()

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _values(self, keys: list[str]) -> list[bytes | None]:
        if not keys:
            return []
        async with _translated_async():
            values: list[bytes | None] = await self._redis.mget(keys)
        return values


def _worth(scores: Sequence[tuple[bytes, float]], state: bytes | None) -> list[tuple[str, float]]:
    if not scores or state is None:
        return []
    trending = layout.decode_trending(state)
    return [(item_id.decode(), decay.value(mass, trending.newest, trending.half_life_ms)) for item_id, mass in scores]


def _script(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
    except layout.LayoutError as error:
        raise StoreUnavailableError(f"what Redis holds can't be read by this version: {error}") from error


@asynccontextmanager
async def _translated_async() -> AsyncIterator[None]:
    with _translated():
        yield
