"""Redis dies, and a replica that is three seconds behind takes its place."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import redis

from bench import installed_servers
from slipstream_cli.local.processes import free_port
from tests.e2e.stack import Stack, wait_for
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.replicas import Launch
from tests.faults.trouble import Trouble
from tests.faults.troubles.lost_writes import IDLE_S, REDIS, SETTLED_S, idle
from tests.integration.redis_failures import Link
from tests.sentinels import following, primary, settled
from tests.servers import RedisKind

LAG_S = 3.0


class Failover(Trouble):
    """The replica takes over the port of the dead server, as it would take over an address. It does
    so while some processes are idle. Where Sentinels watch, they promote one of two replicas.
    """

    strikes = ("redis, its replica promoted",)
    redis = (RedisKind.SINGLE, RedisKind.SENTINEL)

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        if REDIS not in stack.outside.children:
            wait_for(lambda: settled(stack.outside.children), "the Sentinels to know each other")
            return {}
        primary = stack.outside.children[REDIS]
        self._port = primary.port
        self._child = installed_servers.redis(free_port(), stack.directory / "servers" / "replica")
        self._child.start()
        opened.callback(self._child.kill)
        self._replica = redis.Redis(port=self._child.port)
        opened.callback(self._replica.close)
        late = opened.enter_context(lagging(primary.port))
        self._replica.replicaof("127.0.0.1", str(late))
        return {}

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        if REDIS not in bed.servers.children:
            _promoted_by_sentinels(bed, client)
            return
        wait_for(self._follows, "the replica to follow")
        time.sleep(2 * LAG_S)
        with idle(bed, client):
            time.sleep(SETTLED_S)
            bed.servers.held.add(REDIS)  # for good
            os.kill(bed.processes[REDIS], signal.SIGKILL)
            wait_for(lambda: not bed.servers.children[REDIS].alive, "Redis to be dead")
            self._replica.replicaof("NO", "ONE")
            self._replica.config_set("port", self._port)
            time.sleep(IDLE_S)

    def _follows(self) -> bool:
        return bool(self._replica.info("replication")["master_link_status"] == "up")


def _promoted_by_sentinels(bed: Bed, client: Client) -> None:
    """Kill the primary once its replicas lag, until a Sentinel has promoted one of them."""
    children = bed.servers.children
    name = wait_for(lambda: primary(children), "a primary")
    with idle(bed, client):
        time.sleep(SETTLED_S)
        link = Link(children[name].port)
        following(children, link.port)
        link.hold()
        time.sleep(LAG_S)
        with bed.servers.holding(name):
            os.kill(bed.processes[name], signal.SIGKILL)
            link.cut()
            wait_for(lambda: primary(children) not in (None, name), "another primary")
        time.sleep(IDLE_S)
    wait_for(lambda: settled(children), "the dead one to be a replica")


@contextmanager
def lagging(port: int) -> Iterator[int]:
    """A port that forwards to this one, with answers that come `LAG_S` late."""
    known: Future[tuple[int, Callable[[], object]]] = Future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):  # at the end
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, questions, 0.0))
                both.create_task(_forward(answers, writer, LAG_S))

    async def run() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        end = partial(loop.call_soon_threadsafe, ended.set)
        known.set_result((server.sockets[0].getsockname()[1], end))
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="lag", daemon=True)
    thread.start()
    late_port, end = known.result()
    try:
        yield late_port
    finally:
        end()
        thread.join()


async def _forward(source: asyncio.StreamReader, to: asyncio.StreamWriter, lag_s: float) -> None:
    """Pass bytes on, and the end of the connection, each `lag_s` after it came."""
    loop = asyncio.get_running_loop()

    def pass_on(data: bytes) -> None:
        if not to.is_closing():
            to.write(data)

    with suppress(ConnectionError):
        while data := await source.read(65_536):
            loop.call_later(lag_s, pass_on, data)
    loop.call_later(lag_s, to.close)
