"""The connection that keys are read on: whose answer is whose, and what a lost one costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream.stores.connection import StoreUnavailableError
from slipstream.stores.key_connection import KeyConnection


class Server:
    """A server that answers MGET with the keys themselves, while it is let.

    It is a pool of redis-py, too, whose connections lead to it.
    """

    def __init__(self) -> None:
        self.opened, self.released = 0, list[Any]()
        self.answers = asyncio.Event()
        self.answers.set()
        self.refusal = b""
        self.streams: list[asyncio.StreamWriter] = []
        self.accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.port = 0

    async def get_connection(self) -> Any:
        self.opened += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return SimpleNamespace(_reader=reader, _writer=writer)

    async def release(self, connection: Any) -> None:
        self.released.append(connection)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.append(writer)
        self.accepted.put_nowait(writer)
        while line := await reader.readline():
            parts = []
            for _ in range(int(line[1:])):
                await reader.readline()
                parts.append((await reader.readline()).strip())
            await self.answers.wait()
            values = b"".join(b"$%d\r\n%s\r\n" % (len(key), key) for key in parts[1:])
            writer.write(self.refusal or b"*%d\r\n%s" % (len(parts) - 1, values))


@asynccontextmanager
async def a_server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    for stream in made.streams:
        stream.close()
    listening.close()


async def test_commands_are_on_their_way_together_and_each_gets_its_own_answer() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        asked = [connection.read([f"a{n}", f"b{n}"]) for n in range(50)]
        assert await asyncio.gather(*asked) == [
            [f"a{n}".encode(), f"b{n}".encode()] for n in range(50)
        ]
        assert server.opened == 1
        # The pool has its connection back, without the transport, and opens another one for others.
        (handed_back,) = server.released
        assert handed_back._writer is None and handed_back._reader is None
        connection.close()


async def test_a_caller_that_leaves_shifts_no_answer() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        await connection.read(["first"])
        server.answers.clear()
        left, stays = (connection.read([key]) for key in ("left", "stays"))
        left.cancel()
        server.answers.set()
        assert await stays == [b"stays"]
        connection.close()


async def test_what_waits_on_a_lost_connection_is_sent_once_more() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        await connection.read(["first"])
        server.answers.clear()
        waiting = [connection.read([key]) for key in ("a", "b")]
        await asyncio.sleep(0.01)
        for _ in range(2):
            accepted = await server.accepted.get()
            if server.opened == 1:
                accepted.transport.abort()
        server.answers.set()
        assert await asyncio.gather(*waiting) == [[b"a"], [b"b"]]
        assert server.opened == 2
        connection.close()


async def test_what_loses_two_connections_fails_and_the_next_command_opens_another() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        server.answers.clear()
        waiting = connection.read(["a"])
        for _ in range(2):
            (await server.accepted.get()).transport.abort()
        with pytest.raises(StoreUnavailableError):
            await waiting
        server.answers.set()
        assert await connection.read(["c"]) == [b"c"]
        assert server.opened == 3
        connection.close()


async def test_a_server_that_hangs_costs_its_connection_though_nobody_else_asks() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 0.05)
        await connection.read(["first"])
        server.answers.clear()
        hangs = connection.read(["hangs"])
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.05 s"):
            await asyncio.wait_for(hangs, 10)
        server.answers.set()
        assert await connection.read(["again"]) == [b"again"]
        assert server.opened == 2
        connection.close()


async def test_who_waits_for_a_connection_that_is_closed_gets_an_error() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        waits = connection.read(["early"])
        connection.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await waits


async def test_a_server_that_refuses_fails_one_command_and_keeps_its_connection() -> None:
    async with a_server() as server:
        connection = KeyConnection(server, 5.0)
        server.refusal = b"-LOADING Redis is loading the dataset in memory\r\n"
        with pytest.raises(StoreUnavailableError, match="LOADING"):
            await connection.read(["early"])
        server.refusal = b""
        assert await connection.read(["late"]) == [b"late"]
        assert server.opened == 1
        connection.close()


async def test_all_who_wait_for_a_connection_share_its_failure() -> None:
    server = Server()
    server.port = 9  # nobody listens
    connection = KeyConnection(server, 5.0)
    failed = await asyncio.gather(
        *(connection.read([str(n)]) for n in range(20)), return_exceptions=True
    )
    assert {type(error) for error in failed} == {StoreUnavailableError}
    assert server.opened == 1
