"""Redis loses writes that it had confirmed, while some processes have nothing to do.

Who writes to Redis meanwhile notices by a refused call. Who does not has to notice, too.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import redis

from slipstream.broker.kafka import partition_of
from slipstream.broker.topics import physical
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.local.processes import Child
from tests.e2e.stack import Stack, wait_for
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.replicas import Launch
from tests.faults.traffic import Sent
from tests.faults.trouble import Trouble
from tests.redis_clusters import node_place
from tests.servers import RedisKind
from tests.topics import partitions_of

REDIS = "redis"
IDLE_FEATURES = "features 3"
# Redis writes its file to the disk once a second, and on request.
WRITTEN_EVERY_S = 0.1
# So old is the last time when it is killed, and not older.
UNWRITTEN_S, LATEST_S = 0.6, 0.95
# Requests under way end within this time.
SETTLED_S = 0.2
# For so long the idle ones stay idle: features commits what it had within four seconds.
IDLE_S = 8.0


@contextmanager
def idle(bed: Bed, client: Client) -> Iterator[None]:
    """No event for `features 3` nor any request to the last ingestion, for the block."""
    stores, urls = bed.stores, client.urls
    topic = physical(stores.namespace, INTERACTIONS)
    member = IDLE_FEATURES.replace(" ", "-")

    def its_numbers() -> set[int] | None:
        """None while the group rebalances."""
        found = partitions_of(stores.kafka, f"{stores.namespace}.features", member)
        return {number for name, number in found if name == topic} or None

    numbers = wait_for(its_numbers, f"{IDLE_FEATURES} to have partitions")

    def is_for_the_idle(sent: Sent) -> bool:
        keys = {event.user_id for event in sent.events}
        return sent.link is not None or any(
            partition_of(key.encode(), bed.partitions) in numbers for key in keys
        )

    with client.keeping_back(is_for_the_idle):
        client.urls = urls[:-1]
        try:
            yield
        finally:
            client.urls = urls


class CutLog(Trouble):
    """Redis is killed, and the end of its append-only file that was not on the disk is cut off, as
    when a machine loses power. Of a cluster this befalls one node, another one each time.
    """

    strikes: tuple[str, ...] = ("redis, its log cut",) * 3
    redis: tuple[RedisKind, ...] = (RedisKind.SINGLE, RedisKind.CLUSTER)
    fsync = "everysec"

    def __init__(self, beside: str = "") -> None:
        super().__init__(beside)
        self._disks: dict[str, Disk] = {}
        self._cuts: Counter[str] = Counter()

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        children = stack.outside.children
        for name in redis_nodes(children):
            place = node_place(stack.directory / "servers", name)
            self._disks[name] = opened.enter_context(Disk(children[name], place))
        return {}

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        with idle(bed, client):
            self.cut(bed)
            time.sleep(IDLE_S)

    def cut(self, bed: Bed, *victims: str) -> None:
        """Kill the server that was cut least, and these processes with it, and return once it is
        back without its end.
        """
        name = min(self._disks, key=lambda each: self._cuts[each])
        self._cuts[name] += 1

        def kill() -> None:
            for each in (*victims, name):
                with suppress(ProcessLookupError, KeyError):  # it is not there just now
                    os.kill(bed.processes[each], signal.SIGKILL)

        self._disks[name].lose_the_end(partial(bed.servers.holding, name), kill)
        wait_for(bed.servers.children[name].answers, "Redis to be back")


class Disk(threading.Thread):
    """The disk of a Redis with `appendfsync everysec`, which gets all writes ten times a second.

    With one time a second, whoever waits for the disks of a cluster would do little.

    Args:
        server: The Redis.
        directory: Its folder.
    """

    def __init__(self, server: Child, directory: Path) -> None:
        super().__init__(name="disk", daemon=True)
        self._server, self._directory = server, directory
        self._redis = redis.Redis(port=server.port)
        self._key = next(filter(self._is_here, (f"disk-{number}" for number in count())))
        self._writing, self._ended = threading.Lock(), threading.Event()
        # A value in the log, in front of which is whatever the disk has, and when it came there.
        self._end, self._ended_at = b"", 0.0

    def run(self) -> None:
        while not self._ended.wait(WRITTEN_EVERY_S):
            with self._writing, suppress(redis.RedisError):  # it is killed meanwhile
                self._write()

    def lose_the_end(
        self, held: Callable[[], AbstractContextManager[None]], kill: Callable[[], None]
    ) -> None:
        """Have the server killed while it has something that is not on its disk, and cut that off.

        Args:
            held: A block in which the server is not started again.
            kill: Kills the server.
        """
        cut = False
        while not cut:
            wait_for(self._answers, "Redis to answer")
            with self._writing, held():
                self._write()
                time.sleep(UNWRITTEN_S)
                kill()
                wait_for(lambda: not self._server.alive, "Redis to be dead")
                # Later it would have written by itself.
                cut = time.monotonic() - self._ended_at < LATEST_S
                if cut:
                    _cut_behind(self._directory, self._end)

    def _answers(self) -> bool:
        try:
            return self._is_here(self._key)
        except redis.RedisError:
            return False

    def _write(self) -> None:
        self._redis.config_set("appendfsync", "always")
        self._redis.set(self._key, "")
        self._redis.config_set("appendfsync", "everysec")
        self._end, self._ended_at = str(time.time_ns()).encode(), time.monotonic()
        self._redis.set(self._key, self._end)

    def _is_here(self, key: str) -> bool:
        """Whether this server, which may be a cluster's node, has this key."""
        try:
            self._redis.exists(key)
        except redis.exceptions.MovedError:
            return False
        return True

    def __enter__(self) -> "Disk":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.join()
        self._redis.close()


def redis_nodes(children: Mapping[str, Child]) -> list[str]:
    """The names of the servers that make up Redis."""
    return [name for name in children if name.split()[0] == REDIS]


def _cut_behind(directory: Path, value: bytes) -> None:
    """Cut Redis's log off behind the command that wrote this value.

    While Redis rewrites its log, it has several files, of which the last has the newest commands.
    """
    logs = sorted(
        directory.glob("appendonlydir/*.incr.aof"), key=lambda log: int(log.suffixes[1][1:])
    )
    while logs:
        log = logs.pop()
        place = log.read_bytes().rfind(value)
        os.truncate(log, 0 if place < 0 else place + len(value) + len(b"\r\n"))
        if place >= 0:
            return
    raise AssertionError("the value is not in the log")
