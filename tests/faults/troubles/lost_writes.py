"""Redis loses writes that it had confirmed, while some processes have nothing to do.

Who writes to Redis meanwhile notices by a refused call. Who does not has to notice, too.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from slipstream.broker.partitioning import partition_of
from slipstream.broker.topics import physical
from slipstream.contracts.topics import INTERACTIONS
from tests.e2e.stack import wait_for
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.traffic import Sent
from tests.faults.trouble import Trouble
from tests.topics import partitions_of

REDIS = "redis"
IDLE_FEATURES = "features 3"
# Requests under way end within this time.
SETTLED_S = 0.2
# Redis writes its file to the disk once a second. So old is the last time when it is killed.
UNWRITTEN_S = 0.9
# For so long the idle ones stay idle: features commits what it had within four seconds.
IDLE_S = 8.0


@contextmanager
def idle(bed: Bed, client: Client) -> Iterator[None]:
    """No event for `features 3` nor any request to the last ingestion, for the block."""
    stores, urls = bed.stores, client.urls
    topic = physical(stores.namespace, INTERACTIONS)
    member = IDLE_FEATURES.replace(" ", "-")

    def its_numbers() -> set[int] | None:
        """None while the group deals its partitions out anew."""
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
    when a machine loses power.
    """

    strikes = ("redis, its log cut",) * 3

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        with Beats(bed.stores.redis.url.get_secret_value()) as beats:
            beats.wait_for_the_next()
            time.sleep(UNWRITTEN_S - SETTLED_S)
            with idle(bed, client):
                time.sleep(SETTLED_S)
                child = bed.servers.children[REDIS]
                with bed.servers.holding(REDIS):
                    os.kill(bed.processes[REDIS], signal.SIGKILL)
                    wait_for(lambda: not child.alive, "Redis to be dead")
                    _cut_behind(bed.stack.directory / "servers" / "redis", beats.durable)
                wait_for(child.answers, "Redis to be back")
                time.sleep(IDLE_S)


class Beats(threading.Thread):
    """Writes to Redis, again and again, and asks whether that is on its disk.

    `durable` is the last value that was.
    """

    KEY = "beat"

    def __init__(self, url: str) -> None:
        super().__init__(name="beats", daemon=True)
        self.durable = b""
        self._redis = redis.Redis.from_url(url, single_connection_client=True)
        self._changed, self._ended = threading.Condition(), threading.Event()

    def run(self) -> None:
        number = time.time_ns()
        while not self._ended.is_set():
            number += 1
            try:
                self._redis.set(self.KEY, number)
                on_disk, _ = self._redis.waitaof(1, 0, 2_000)
            except redis.RedisError:
                return
            if on_disk:
                with self._changed:
                    self.durable = str(number).encode()
                    self._changed.notify_all()

    def wait_for_the_next(self) -> None:
        """Return when Redis has just written to its disk."""
        before = self.durable
        with self._changed:
            assert self._changed.wait_for(lambda: self.durable not in (b"", before), 60)

    def __enter__(self) -> "Beats":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.join()
        self._redis.close()


def _cut_behind(directory: Path, beat: bytes) -> None:
    """Cut Redis's log off behind the command that wrote this beat. While Redis rewrites its log, it
    has several files, of which the last has the newest commands.
    """
    logs = sorted(
        directory.glob("appendonlydir/*.incr.aof"), key=lambda log: int(log.suffixes[1][1:])
    )
    while logs:
        log = logs.pop()
        place = log.read_bytes().rfind(beat)
        os.truncate(log, 0 if place < 0 else place + len(beat) + len(b"\r\n"))
        if place >= 0:
            return
    raise AssertionError("the beat that was on the disk is not in the log")
