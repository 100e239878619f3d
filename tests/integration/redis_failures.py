"""Failures of Redis in which it loses its last writes: a cut file, and a replica that lags."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from slipstream.chassis.settings import RedisSettings
from slipstream_cli.local.processes import Child
from tests.waiting import until


def client_of(settings: RedisSettings) -> Any:
    """A client of this Redis."""
    return redis.Redis.from_url(settings.url.get_secret_value())


def append_only_file(directory: Path) -> Path:
    """The file that a Redis with this folder writes to now."""
    return max(directory.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)


def crash_and_lose(server: Child, file: Path, size: int) -> None:
    """Kill a Redis, cut its file to `size` bytes, and start it again."""
    server.kill()
    with file.open("r+b") as held:
        held.truncate(size)
    server.start()


class Link:
    """Forwards one connection to a port, until it is held: then nothing arrives any more."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._ended = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Forward nothing more, and let both ends believe that the connection stands."""
        self._open.clear()

    def cut(self) -> None:
        """End all connections; what was held never arrives."""
        self._ended.set()
        self._listening.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                if self._ended.is_set():
                    return
                sink.sendall(data)


@contextmanager
def replicated(
    master: RedisSettings, replica: RedisSettings, master_server: Child
) -> Iterator[Link]:
    """Make one Redis the replica of another, over a link that the block may hold."""
    link, client = Link(master_server.port), client_of(replica)
    client.replicaof("127.0.0.1", str(link.port))
    until(lambda: client.info("replication")["master_link_status"] == "up")
    # The master counts it once it has heard of it, too.
    until(lambda: client_of(master).info("replication")["connected_slaves"] == 1)
    try:
        yield link
    finally:
        link.cut()


def fail_over(link: Link, master_server: Child, replica: RedisSettings) -> None:
    """Kill the master, and have the replica answer at its address, without what was held."""
    master_server.kill()
    link.cut()
    client = client_of(replica)
    client.replicaof("NO", "ONE")
    client.config_set("port", master_server.port)
