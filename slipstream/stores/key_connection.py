"""Reads of keys on one connection to Redis, with several commands on their way at once.

redis-py opens the connection, with its credentials, TLS and Sentinels. Its own way of a command,
through pool, retries and timeouts, takes 85 to 150 µs of the event loop's time where this one takes
20 (docs/adr/0070).
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as ConnectionFailure
from redis.exceptions import ResponseError

from slipstream.stores.connection import translated
from slipstream.stores.gathered_reads import Values


@dataclass(slots=True)
class _Command:
    keys: list[str]
    answer: asyncio.Future[Values]
    sent_at: float = 0.0
    sent_again: bool = False

    def fail(self, error: Exception) -> None:
        """Fail with what the online store's callers know of."""
        if self.answer.done():
            return
        try:
            with translated():
                raise error
        except Exception as known:
            self.answer.set_exception(known)


class KeyConnection(asyncio.Protocol):
    """A connection that reads keys by MGET, and is opened when it is needed.

    Answers come in the order of the commands, so each goes to the one that has waited longest. What
    waits while a connection is lost is sent once more, by another one. Used in one event loop. An
    answer that takes longer than `timeout_s` costs the connection.
    """

    def __init__(self, pool: Any, timeout_s: float) -> None:
        self._pool, self._timeout_s = pool, timeout_s
        self._reader = hiredis.Reader()
        # redis-py's writer, which would close the transport with its own end.
        self._writer: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[_Command] = []
        self._waiting: deque[_Command] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def read(self, keys: list[str]) -> asyncio.Future[Values]:
        """The values of keys, in their order. Raises `StoreUnavailableError`."""
        command = _Command(keys, asyncio.get_running_loop().create_future())
        self._send(command)
        return command.answer

    def close(self) -> None:
        """Close the connection; whoever waits gets no answer."""
        if self._opening is not None:
            self._opening.cancel()
        unsent, self._unsent = self._unsent, []
        for command in (*self._lost(), *unsent):
            command.fail(ConnectionFailure("closed"))

    def data_received(self, data: bytes) -> None:
        """Hand answers to those that wait for them."""
        self._reader.feed(data)
        while self._waiting and (answer := self._reader.gets()) is not False:
            if isinstance(answer, hiredis.PushNotification):
                continue
            command = self._waiting.popleft()
            if isinstance(answer, hiredis.ReplyError):
                command.fail(ResponseError(str(answer)))
            elif not command.answer.done():
                command.answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Send what waits by another connection; what was sent again already fails."""
        for command in self._lost():
            if command.sent_again:
                command.fail(ConnectionFailure(str(exc or "closed by the server")))
            elif not command.answer.done():
                command.sent_again = True
                self._send(command)

    def _send(self, command: _Command) -> None:
        if self._writer is None:
            self._unsent.append(command)
            if self._opening is None:
                self._opening = asyncio.create_task(self._open())
            return
        loop = asyncio.get_running_loop()
        command.sent_at = loop.time()
        self._waiting.append(command)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._look_at_clock, loop)
        packed = hiredis.pack_command(("MGET", *command.keys))  # type: ignore[arg-type]
        self._writer.transport.write(packed)

    def _look_at_clock(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the connection up where an answer has taken too long."""
        self._timer = None
        if not self._waiting:
            return
        left_s = self._waiting[0].sent_at + self._timeout_s - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look_at_clock, loop)
            return
        for command in self._lost():
            command.fail(ConnectionFailure(f"no answer within {self._timeout_s:g} s"))

    async def _open(self) -> None:
        """Open a connection, and send what waits for it; else all of that fails."""
        failure: Exception | None = None
        try:
            connection = await self._pool.get_connection()
            # Taken out of redis-py's hands, which opens another one where it needs it.
            writer = connection._writer  # noqa: SLF001
            connection._writer = connection._reader = None  # noqa: SLF001
            await self._pool.release(connection)
            writer.transport.set_protocol(self)
            self._reader, self._writer = hiredis.Reader(), writer
        except Exception as error:
            failure = error
        self._opening = None
        unsent, self._unsent = self._unsent, []
        for command in unsent:
            if failure is not None:
                command.fail(failure)
            else:
                self._send(command)

    def _lost(self) -> deque[_Command]:
        """Give the connection up; what waits for its answers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        writer, self._writer = self._writer, None
        waiting, self._waiting = self._waiting, deque()
        if writer is not None:
            # Its own end must not end the one after it.
            writer.transport.set_protocol(asyncio.Protocol())
            writer.transport.abort()
        return waiting
