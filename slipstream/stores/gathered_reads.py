"""Reads of keys that are requested at the same time, gathered into one command.

On a Redis Cluster there is one command for each node, and all nodes are read at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException

from slipstream.stores.connection import FAILURES, translated

Values = list[bytes | None]
# The keys of a caller, and the answer that it waits for.
Caller = tuple[Sequence[str], asyncio.Future[Values]]

# Keys of one command. A longer one would hold up others on the server, which runs one at a time.
MOST_KEYS: Final = 1_000


class GatheredReads:
    """Reads the keys of all callers in one turn of the event loop by one command.

    The command leaves at the end of the turn, so that a single caller does not wait for others.
    Callers wait independently: one that leaves takes nothing from the others. A failure reaches
    all callers with keys in the command. Used in one event loop.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Values]]) -> None:
        self._read = read
        self._asked: list[Caller] = []
        self._reading: set[asyncio.Future[Values]] = set()

    async def values(self, keys: Sequence[str]) -> Values:
        """The values of these keys, in their order. Raises what `read` raises."""
        if not keys:
            return []
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        answer: asyncio.Future[Values] = loop.create_future()
        self._asked.append((keys, answer))
        return await answer

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        waiting = [(keys, answer) for keys, answer in asked if not answer.done()]
        for group in _groups(waiting):
            keys = [key for of_caller, _ in group for key in of_caller]
            self._reading.add(read := asyncio.ensure_future(self._read(keys)))
            read.add_done_callback(partial(self._ended, group))

    def _ended(self, group: list[Caller], read: asyncio.Future[Values]) -> None:
        self._reading.discard(read)
        error = None if read.cancelled() else read.exception()
        begin = 0
        for keys, answer in group:
            end = begin + len(keys)
            if answer.done():
                pass  # the caller has left
            elif read.cancelled():
                answer.cancel()
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(read.result()[begin:end])
            begin = end


def _groups(callers: Sequence[Caller]) -> Iterator[list[Caller]]:
    """Divide callers so that no group has more than `MOST_KEYS` keys, but for one caller's own."""
    group: list[Caller] = []
    size = 0
    for caller in callers:
        if group and size + len(caller[0]) > MOST_KEYS:
            yield group
            group, size = [], 0
        group.append(caller)
        size += len(caller[0])
    if group:
        yield group


class ClusterReads:
    """Reads of callers, as `GatheredReads` does them, of each node apart.

    An unavailable node fails only callers that ask for a key of it. Used in one event loop.
    Commands of the client are tried once from now on; `most` are on their way to a node.
    """

    def __init__(self, client: Any, most: int) -> None:
        self._redis, self._most = client, most
        # A pipeline that is tried again closes the connections to all nodes first.
        client.set_retry(Retry(NoBackoff(), 0))
        self._nodes: dict[str, GatheredReads] = {}
        self._looking: asyncio.Task[None] | None = None

    def node(self, key: str) -> str:
        """The name of the node that holds a key; empty before the first read."""
        with suppress(RedisClusterException):
            return str(self._redis.get_node_from_key(key).name)
        return ""

    async def values(self, keys: Sequence[str]) -> Values:
        """The values of these keys, in their order.

        Raises `StoreUnavailableError` when a node that holds one of them does not answer.
        """
        with translated():
            await self._redis.initialize()
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self.node(key), []).append(place)
        answers = await asyncio.gather(
            *(
                self._of(name).values([keys[place] for place in of_node])
                for name, of_node in places.items()
            )
        )
        values: Values = [None] * len(keys)
        for of_node, answer in zip(places.values(), answers, strict=True):
            for place, value in zip(of_node, answer, strict=True):
                values[place] = value
        return values

    def _of(self, name: str) -> GatheredReads:
        if name not in self._nodes:
            turns = asyncio.Semaphore(self._most)
            self._nodes[name] = GatheredReads(partial(self._read, name, turns))
        return self._nodes[name]

    async def _read(self, name: str, turns: asyncio.Semaphore, keys: list[str]) -> Values:
        async with turns:
            with translated():
                try:
                    values: Values = await self._redis.mget_nonatomic(keys)
                except FAILURES:
                    self.look_again(name)
                    raise
        return values

    def look_again(self, name: str) -> None:
        """Drop the connections to a node that failed, and ask another one who holds what now.

        The client does neither after a pipeline. Without it, each connection to a node that has
        restarted would fail once, and a replica that took over would never be found.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again(name))

    async def ping(self) -> None:
        """Return when each primary answers."""
        # Not by a command of the client: after a failure that asks all callers to wait until it
        # knows the nodes again, which it may ask one that hangs.
        await self._redis.initialize()
        await asyncio.gather(
            *(node.execute_command("PING") for node in self._redis.get_primaries())
        )

    async def _look_again(self, name: str) -> None:
        with suppress(*FAILURES):
            node = self._redis.get_node(node_name=name)
            if node is not None:
                node.update_active_connections_for_reconnect()
                await node.disconnect_free_connections()
            await self._redis.nodes_manager.initialize(last_failed_node_name=name)
