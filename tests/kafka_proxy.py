"""A proxy before a Kafka broker that holds, loses or cuts requests by their kind.

Clients reach the broker through it only when the broker advertises the proxy's address. Kafka's
wire format is length-prefixed; a request begins with its API key, version and correlation id, a
response with the correlation id (https://kafka.apache.org/protocol#protocol_messages).
"""

import asyncio
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")


class Api(IntEnum):
    """The kinds of request that rules name, by Kafka's API keys."""

    PRODUCE = 0
    FETCH = 1
    METADATA = 3
    OFFSET_COMMIT = 8
    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14


@dataclass
class Rule:
    """A fault for one kind of request.

    Args:
        api: Kind of request that it applies to.
        hold_s: Seconds for which the request is kept before it goes on; later requests of the
            connection wait behind it.
        lose_answer: Whether the connection is closed in place of the broker's answer, after the
            broker has acted.
        cut: Whether the connection is closed in place of the request, which the broker never sees.
        spare: Requests of this kind at the beginning of each connection that pass untouched.
        times: Requests that the rule applies to before it is spent; None: all.
    """

    api: Api
    hold_s: float = 0.0
    lose_answer: bool = False
    cut: bool = False
    spare: int = 0
    times: int | None = None

    def takes(self, nth: int) -> bool:
        """Whether it applies to the nth request of its kind on a connection, counted from 1. Uses
        up one of `times` then.
        """
        if nth <= self.spare or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class KafkaProxy:
    """Forwards connections on `port` to a broker. `rules` may change at any time; `seen` counts
    requests by API key.
    """

    def __init__(self, port: int, broker_port: int) -> None:
        self.port, self.broker_port = port, broker_port
        self.rules: list[Rule] = []
        self.seen: Counter[int] = Counter()
        self.applied: Counter[int] = Counter()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.broker_port)
        except OSError:
            writer.close()
            return
        lost: set[int] = set()
        ways = {
            asyncio.create_task(self._requests(reader, to_broker, lost)),
            asyncio.create_task(self._responses(from_broker, writer, lost)),
        }
        try:
            with suppress(asyncio.CancelledError):  # the proxy ends
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.close()
            to_broker.close()

    async def _requests(
        self, reader: asyncio.StreamReader, to_broker: asyncio.StreamWriter, lost: set[int]
    ) -> None:
        count: Counter[int] = Counter()
        while (frame := await _frame(reader)) is not None:
            api, _, correlation_id = _REQUEST.unpack_from(frame, _LENGTH.size)
            count[api] += 1
            self.seen[api] += 1
            for rule in [rule for rule in self.rules if rule.api == api and rule.takes(count[api])]:
                self.applied[api] += 1
                if rule.cut:
                    return
                if rule.lose_answer:
                    lost.add(correlation_id)
                await asyncio.sleep(rule.hold_s)
            to_broker.write(frame)
            await to_broker.drain()

    async def _responses(
        self, from_broker: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: set[int]
    ) -> None:
        while (frame := await _frame(from_broker)) is not None:
            if _LENGTH.unpack_from(frame, _LENGTH.size)[0] in lost:
                return
            writer.write(frame)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes | None:
    """One message with its length before it; None when the connection has ended."""
    try:
        length = await reader.readexactly(_LENGTH.size)
        return length + await reader.readexactly(_LENGTH.unpack(length)[0])
    except (asyncio.IncompleteReadError, OSError):
        return None


@contextmanager
def proxied(port: int, broker_port: int) -> Iterator[KafkaProxy]:
    """Run a proxy in a thread for the length of the block."""
    proxy = KafkaProxy(port, broker_port)
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", port)
        started.set()
        async with server:
            await server.serve_forever()

    async def main() -> None:
        with suppress(asyncio.CancelledError):
            await task
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    task = loop.create_task(run())
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(main()), name="kafka-proxy", daemon=True
    )
    thread.start()
    assert started.wait(60), "the proxy did not start"
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(60)
