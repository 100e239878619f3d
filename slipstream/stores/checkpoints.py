"""Checkpoints in Redis: for each source the next offset, before which Redis has every effect.

A checkpoint is written behind the effects of a batch. What Redis loses is always the end of its
history: in the last second of an append-only file, or what a replica had not received yet. So a
Redis that has lost effects has lost their checkpoint, too, and says by itself from where its
writers have to read again.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.stores.connection import Call, Scripts, connect, translated
from slipstream.stores.keys import Keys

log = get_logger(__name__)

# Longest wait for the disk, and then for a replica. `appendfsync everysec` takes a second.
WAIT_S: Final = 2.0
# The first version with WAITAOF; Valkey names it as the one that it is compatible with.
_WAITAOF_SINCE: Final = (7, 2)


class CheckpointMove(NamedTuple):
    """A checkpoint's move to `reached`, from `least` or more (-1: from anything)."""

    least: int
    reached: int


class Durability(Enum):
    """What Redis says of the effects before some offsets.

    Attributes:
        SAFE: they outlive a crash, or the server is none that can tell.
        PENDING: the disk or the replica has not had them in time.
        LOST: Redis does not have them all any more.
    """

    SAFE = "safe"
    PENDING = "pending"
    LOST = "lost"


class Checkpoints:
    """The checkpoints, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys, self._ttl_ms = client, scripts, keys, ttl_ms

    def read(self, sources: Sequence[str]) -> dict[str, int]:
        """The checkpoints of these sources, without those that have none."""
        values = (
            self._redis.mget([self._keys.checkpoint(source) for source in sources])
            if sources
            else []
        )
        return {
            source: int(value)
            for source, value in zip(sources, values, strict=True)
            if value is not None
        }

    def advance(self, moves: Mapping[str, CheckpointMove]) -> bool:
        """Move checkpoints, by source, on to their offsets, none back.

        Returns False, and moves none, when one holds less than its least.
        """
        if not moves:
            return True
        keys = [self._keys.checkpoint(source) for source in moves]
        offsets = [number for move in moves.values() for number in move]
        return bool(self._scripts.run("advance", [Call(keys, [self._ttl_ms, *offsets])])[0])


class DurabilityQuestions:
    """Questions whether effects are durable, on a connection of their own, for they wait.

    Another thread than the writer's may ask. Methods raise `StoreUnavailableError`.
    """

    def __init__(self, settings: RedisSettings, keys: Keys, ttl_ms: int) -> None:
        self._redis = connect(settings, settings.timeout_s + 2 * WAIT_S)
        self._keys, self._ttl_ms = keys, ttl_ms
        self._waits: Collection[str] | None = None

    def ask(self, offsets: Mapping[str, int]) -> Durability:
        """Wait until the effects before these offsets, by source, are durable.

        A server with an append-only file says when that is on its disk, from version 7.2 on. One
        with replicas says when one of them has received the effects. Of any other server nothing
        more is asked than whether it still has them.
        """
        with translated():
            facts = self._redis.info()
            waits = _waits(facts)
            if waits.keys() != self._waits:
                self._waits = waits.keys()
                log.info("offsets are committed once Redis confirms", by=sorted(waits))
            pipeline = self._redis.pipeline(transaction=False)
            keys = [self._keys.checkpoint(source) for source in offsets]
            pipeline.mget(keys)
            # A server waits for the last write of the connection that asks. So this writes, behind
            # the effects.
            for key in keys:
                pipeline.pexpire(key, self._ttl_ms)
            for wait in waits.values():
                pipeline.execute_command(*wait)
            held, *answers = pipeline.execute()
        if any(
            int(value or -1) < offset for value, offset in zip(held, offsets.values(), strict=True)
        ):
            return Durability.LOST
        # WAITAOF answers with two counts: this server, its replicas.
        confirmed = [
            bool(answer[0] if isinstance(answer, list) else answer)
            for answer in answers[len(keys) :]
        ]
        return Durability.SAFE if all(confirmed) else Durability.PENDING

    def close(self) -> None:
        self._redis.close()


def _waits(facts: Mapping[str, Any]) -> dict[str, tuple[str | int, ...]]:
    """The commands that wait for what this server has, by name; `facts` are its INFO."""
    limit_ms = int(WAIT_S * 1000)
    waits: dict[str, tuple[str | int, ...]] = {}
    version = tuple(int(number) for number in str(facts["redis_version"]).split(".")[:2])
    if facts.get("aof_enabled") and version >= _WAITAOF_SINCE:
        waits["append-only file"] = ("WAITAOF", 1, 0, limit_ms)
    if facts.get("connected_slaves"):
        waits["replica"] = ("WAIT", 1, limit_ms)
    return waits
