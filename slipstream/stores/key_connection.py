"""Reads of keys on one connection to Redis, with several commands on their way at once.

redis-py opens the connection, with its credentials, TLS and Sentinels. Its own way of a command,
through pool, retries and timeouts, takes 85 to 150 µs of the event loop's time where this one takes
20 (docs/adr/0070).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as ConnectionFailure
from redis.exceptions import ResponseError

from slipstream.stores.connection import StoreUnavailableError, translated
from slipstream.stores.gathered_reads import Values


class KeyConnection(asyncio.Protocol):
    """A connection that reads keys by MGET, and is opened when it is needed.

    Answers come in the order of the commands, so each goes to the one that has waited longest. A
    connection that is lost fails all who wait; the next command opens another. Used in one event
    loop.

    Args:
        pool: The pool of redis-py that opens connections.
        timeout_s: Longest that an answer may take. One that takes longer costs the connection.
    """

    def __init__(self, pool: Any, timeout_s: float) -> None:
        self._pool, self._timeout_s = pool, timeout_s
        self._reader = hiredis.Reader()
        self._opening: asyncio.Task[None] | None = None
        # redis-py's writer, which would close the transport with its own end.
        self._writer: Any = None
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[float, asyncio.Future[Values]]] = deque()

    def read(self, keys: list[str]) -> Awaitable[Values]:
        """The values of keys, in their order. Raises `StoreUnavailableError`."""
        if self._waiting and self._loop.time() - self._waiting[0][0] > self._timeout_s:
            self._lost(ConnectionFailure(f"no answer within {self._timeout_s:g} s"))
        if self._transport is None:
            return self._asked_of_another(keys)
        return self._ask(self._transport, keys)

    def close(self) -> None:
        """Close the connection; whoever waits gets no answer."""
        self._lost(ConnectionFailure("closed"))

    def data_received(self, data: bytes) -> None:
        """Hand answers to those that wait for them."""
        self._reader.feed(data)
        while self._waiting and (answer := self._reader.gets()) is not False:
            if isinstance(answer, hiredis.PushNotification):
                continue
            _, waiting = self._waiting.popleft()
            if waiting.done():
                continue
            if isinstance(answer, hiredis.ReplyError):
                _fail(waiting, ResponseError(str(answer)))
            else:
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail those that wait."""
        self._lost(ConnectionFailure(str(exc or "closed by the server")))

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _ask(self, transport: asyncio.Transport, keys: list[str]) -> asyncio.Future[Values]:
        answer: asyncio.Future[Values] = self._loop.create_future()
        self._waiting.append((self._loop.time(), answer))
        transport.write(hiredis.pack_command(("MGET", *keys)))  # type: ignore[arg-type]
        return answer

    async def _asked_of_another(self, keys: list[str]) -> Values:
        """The values, by another connection. All who wait for it share its failure."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            await asyncio.shield(opening)
        finally:
            if self._opening is opening and opening.done():
                self._opening = None
        if self._transport is None:
            raise StoreUnavailableError("Redis: the connection was lost at once")
        return await self._ask(self._transport, keys)

    async def _open(self) -> None:
        with translated():
            connection = await self._pool.get_connection()
            # Taken out of redis-py's hands, which opens another one where it needs it.
            writer = connection._writer  # noqa: SLF001
            connection._writer = connection._reader = None  # noqa: SLF001
            await self._pool.release(connection)
        self._reader, self._writer, self._transport = hiredis.Reader(), writer, writer.transport
        writer.transport.set_protocol(self)

    def _lost(self, error: ConnectionFailure) -> None:
        transport, self._transport, self._writer = self._transport, None, None
        waiting, self._waiting = self._waiting, deque()
        if transport is not None:
            transport.abort()
        for _, answer in waiting:
            if not answer.done():
                _fail(answer, error)


def _fail(answer: asyncio.Future[Values], error: Exception) -> None:
    try:
        with translated():
            raise error
    except Exception as unavailable:
        answer.set_exception(unavailable)
