"""Reads of the online store, as coroutines."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.page_visitors import page_visitor
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import FAILURES, translated
from slipstream.stores.gathered_reads import ClusterReads, GatheredReads
from slipstream.stores.key_connection import KeyConnection
from slipstream.stores.layout import Keys, MergeMarker, StateCache, trending_items
from slipstream.stores.redis_clients import waiting_client
from slipstream.stores.redis_server import refuse_cluster
from slipstream.stores.visitor_values import (
    MOST_HOPS,
    Content,
    reading_path,
    state_to_read,
    to_read,
)

# Decoded items that a reader keeps, of about 5 KB each.
ITEMS_KEPT: Final = 4_096


class VisitorValue:
    """A visitor's state as Redis holds it, which is decoded where somebody asks for it.

    Args:
        revision: A number that no other state has or had; empty where the value does not tell, as a
            marker does not of the state that it leads to.
    """

    __slots__ = ("_value", "revision")

    def __init__(self, revision: bytes, value: bytes | VisitorState) -> None:
        self.revision, self._value = revision, value

    @property
    def state(self) -> VisitorState:
        """The state. Raises `StoreUnavailableError` where this version can't read it."""
        if not isinstance(self._value, bytes):
            return self._value
        with translated():
            return layout.decode_visitor(self._value)


class OnlineReader:
    """Reads for request handlers. Made and used in one event loop.

    Methods raise `StoreUnavailableError` when Redis does not answer.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._keys = Keys(namespace)
        # Items are read far more often than they change.
        self._items = StateCache(layout.decode_item, ITEMS_KEPT)
        self._redis: Any = waiting_client(
            settings.url.get_secret_value(), settings.timeout_s, settings.max_connections
        )
        self._cluster: ClusterReads | None = None
        self._connection: KeyConnection | None = None
        self._reads: ClusterReads | GatheredReads
        if isinstance(self._redis, RedisCluster):  # its command reads keys of one slot only
            self._reads = self._cluster = ClusterReads(self._redis, settings.max_connections)
        else:
            self._connection = KeyConnection(self._redis.connection_pool, settings.timeout_s)
            self._reads = GatheredReads(self._connection.read)

    def node(self, user_id: str | None = None) -> str:
        """The node of a cluster that holds a visitor's state, or with None the lists of demand.

        Empty for one server, and before the first read.
        """
        if self._cluster is None:
            return ""
        key = self._keys.trending if user_id is None else self._keys.visitor(user_id)
        return self._cluster.node(key)

    async def visitor(self, user_id: str) -> VisitorState | None:
        """The state of the visitor, or of the user that the visitor is proven to be, or None."""
        return (await self.visitors([user_id]))[0]

    async def visitor_value(self, user_id: str) -> VisitorValue | None:
        """The same, not decoded yet."""
        (value,) = await self._reads.values([self._keys.visitor(user_id)])
        if value is None:
            return None
        if not layout.is_marker(value):
            return VisitorValue(layout.revision_of(value), value)
        with translated():
            marker = layout.decode_visitor_or_marker(value)
        state = state_to_read(await self._followed({user_id: marker}), user_id)
        return None if state is None else VisitorValue(b"", state)

    async def visitors(self, user_ids: Sequence[str]) -> list[VisitorState | None]:
        """The visitors' states, in the order asked."""
        return (await self.states(user_ids, ()))[0]

    async def items(self, item_ids: Sequence[str]) -> list[ItemState | None]:
        """The items' states, in the order asked."""
        return (await self.states((), item_ids))[1]

    async def states(
        self, user_ids: Sequence[str], item_ids: Sequence[str]
    ) -> tuple[list[VisitorState | None], list[ItemState | None]]:
        """Visitors' and items' states, in the orders asked.

        A merged visitor gets the user's state. It takes one round trip, to all nodes of a cluster
        at once, which all callers of a turn of the event loop share, and one more for each marker
        on the way.
        """
        keys = [self._keys.visitor(user_id) for user_id in user_ids] + [
            self._keys.item(item_id) for item_id in item_ids
        ]
        values = await self._reads.values(keys)
        with translated():
            contents = [
                layout.decode_visitor_or_marker(value) if value else None
                for value in values[: len(user_ids)]
            ]
            of_items = zip(keys[len(user_ids) :], values[len(user_ids) :], strict=True)
            items = [self._items.state(key, value) if value else None for key, value in of_items]
        if any(isinstance(content, MergeMarker) for content in contents):
            followed = await self._followed(dict(zip(user_ids, contents, strict=True)))
            return [state_to_read(followed, user_id) for user_id in user_ids], items
        return cast("list[VisitorState | None]", contents), items

    async def active_visitors(self, n: int) -> list[tuple[str, int]]:
        """The `n` visitors who were active last, latest first, with their newest event's time (ms).

        Some may be one user by now, and some may be gone: `users` tells.
        """
        async with translated_async():
            found = await self._redis.zrevrange(
                self._keys.active_visitors, 0, n - 1, withscores=True
            )
        return [(visitor_id.decode(), int(time_ms)) for visitor_id, time_ms in found]

    async def users(self, visitor_ids: Sequence[str]) -> dict[str, tuple[str, VisitorState]]:
        """For each of these visitors who is known, the user that they are, and the user's state.

        Who is known by a page's word alone is the anonymous visitor.
        """
        values = await self._reads.values([self._keys.visitor(each) for each in visitor_ids])
        with translated():
            contents = {
                visitor_id: layout.decode_visitor_or_marker(value) if value else None
                for visitor_id, value in zip(visitor_ids, values, strict=True)
            }
        contents = await self._followed(contents)
        found = {}
        for visitor_id in visitor_ids:
            state = state_to_read(contents, visitor_id)
            if state is not None:
                path = reading_path(contents, visitor_id)
                found[visitor_id] = page_visitor(path[-1] if path else visitor_id), state
        return found

    async def catalog(
        self, entity_ids: Sequence[str], entity: str = "item"
    ) -> list[CatalogRecord | None]:
        """The catalogue records of items, or of users, in the order asked.

        That of a deleted one says so.
        """
        if not entity_ids:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for entity_id in entity_ids:
            pipeline.hget(self._keys.catalog(entity, entity_id), "record")
        values = await self._executed(pipeline, "")
        return [layout.decode_catalog(value) for value in values]

    async def item_ids(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """A step of Redis' scan of the catalogue's ids, of about `count`; deletions among them.

        Returns the cursor of the next step, which is 0 at the end, and the ids, in no order.
        """
        async with translated_async():
            following, ids = await self._redis.sscan(
                self._keys.catalog_index("item"), cursor=cursor, count=count
            )
        return int(following), [item_id.decode() for item_id in ids]

    async def trending(self, n: int, window: str = "") -> list[tuple[str, float]]:
        """The `n` heaviest items, highest first, with their weight at the newest event.

        With a window, a key of `POPULAR_WINDOWS`, they are its popular items.
        """
        if n <= 0:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrevrange(self._keys.demand_scores(window), 0, n - 1, withscores=True)
        pipeline.get(self._keys.trending)
        scores, state = await self._executed(pipeline, self.node())
        return trending_items(scores, state, window)

    async def ping(self) -> None:
        """Return when Redis answers, of a cluster each primary; a readiness check."""
        async with translated_async():
            await (self._cluster or self._redis).ping()

    async def refuse_cluster(self) -> None:
        """Raise `RefusedSettingsError` where the URL of one server leads to a cluster's node.

        One that is unavailable passes.
        """
        if self._cluster is not None:
            return
        with suppress(RedisError, OSError):
            refuse_cluster(await self._redis.info("cluster"))

    async def aclose(self) -> None:
        if self._connection is not None:
            self._connection.close()
        await self._redis.aclose()

    async def _followed(self, contents: dict[str, Content]) -> dict[str, Content]:
        """The contents, with those that their markers lead to."""
        for _ in range(MOST_HOPS):
            further = list(to_read(contents))
            if not further:
                break
            values = await self._reads.values([self._keys.visitor(user_id) for user_id in further])
            with translated():
                contents |= {
                    user_id: layout.decode_visitor_or_marker(value) if value else None
                    for user_id, value in zip(further, values, strict=True)
                }
        return contents

    async def _executed(self, pipeline: Any, node: str) -> list[Any]:
        """The answers to a pipeline of commands to this node, or to several."""
        with translated():
            try:
                answers: list[Any] = await pipeline.execute()
            except FAILURES:
                if self._cluster is not None:
                    self._cluster.look_again(node)
                raise
        return answers


@asynccontextmanager
async def translated_async() -> AsyncIterator[None]:
    """`translated`, for a block that awaits."""
    with translated():
        yield
