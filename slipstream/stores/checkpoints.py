"""Checkpoints in Redis: for each source the next offset, before which Redis has every effect.

A checkpoint is written behind the effects of a batch. What Redis loses is always the end of its
history: in the last second of an append-only file, or what a replica had not received yet. So a
Redis that has lost effects has lost their checkpoint, too, and says by itself from where its
writers have to read again. Nodes of a cluster lose their ends alone: there a checkpoint is written
once all of them keep the effects.

Two more records tell what to leave out. Lineages say how far each log was applied, and where it
parted from that: after an unclean election a log lacks records that were applied, and has others
under their offsets. So what is about to be applied is noted first, with its leader epochs, which
tell the two apart. Marks of erased visitors tell late records
(`slipstream.contracts.late_records`): two sorted sets in one slot, the digests of visitors by each
of a mark's two times.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.late_records import ErasureMark
from slipstream.contracts.times import DAY_MS
from slipstream.stores.cluster_clients import WAIT_S
from slipstream.stores.connection import (
    Call,
    Scripts,
    ask_owner,
    connect,
    on_servers,
    owner,
    server_facts,
    translated,
)
from slipstream.stores.layout import Keys

log = get_logger(__name__)

# A partition where nothing comes for longer is read again from its commit.
TTL_MS: Final = 365 * DAY_MS
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

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts, self._keys = scripts, keys

    def read(self, sources: Sequence[str]) -> dict[str, int]:
        """The checkpoints of these sources, without those that have none.

        A script reads them. So what follows on another server than this one, which may lack what
        this one has, is refused there.
        """
        if not sources:
            return {}
        keys = [self._keys.checkpoint(source) for source in sources]
        (values,) = self._scripts.run("checkpoints", [Call(keys, [])])
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
        self._scripts.settle()
        keys = [self._keys.checkpoint(source) for source in moves]
        offsets = [number for move in moves.values() for number in move]
        return bool(self._scripts.run("advance", [Call(keys, [TTL_MS, *offsets])])[0])


class DurabilityQuestions:
    """Questions whether effects are durable, on a connection of their own, for they wait.

    Another thread than the writer's may ask. Methods raise `StoreUnavailableError`.
    """

    def __init__(self, settings: RedisSettings, keys: Keys) -> None:
        self._redis = connect(settings, settings.timeout_s + 2 * WAIT_S)
        self._keys = keys
        self._waits: Collection[str] | None = None

    def ask(self, offsets: Mapping[str, int]) -> Durability:
        """Wait until the effects before these offsets, by source, are durable.

        A server with an append-only file says when that is on its disk, from version 7.2 on. One
        with replicas says when one of them has received the effects. Of any other server nothing
        more is asked than whether it still has them. On a cluster all nodes kept the effects before
        the checkpoints moved, so the one that has the checkpoints is asked.
        """
        keys = [self._keys.checkpoint(source) for source in offsets]
        with translated():
            facts = on_servers(self._redis, server_facts)
            waits = _waits(facts.get(owner(self._redis, keys[0]), {}))
            if waits.keys() != self._waits:
                self._waits = waits.keys()
                log.info("offsets are committed once Redis confirms", by=sorted(waits))
            # A server waits for the last write of the connection that asks. So this writes, behind
            # the effects.
            renew = [("PEXPIRE", key, TTL_MS) for key in keys]
            answers = ask_owner(self._redis, keys[0], [("MGET", *keys), *renew, *waits.values()])
            held, renewals, confirmations = (
                answers[0],
                answers[1 : len(keys) + 1],
                answers[len(keys) + 1 :],
            )
            for answer in (held, *renewals):
                if isinstance(answer, Exception):
                    raise answer
        if any(
            int(value or -1) < offset for value, offset in zip(held, offsets.values(), strict=True)
        ):
            return Durability.LOST
        return Durability.SAFE if all(map(_confirms, confirmations)) else Durability.PENDING

    def close(self) -> None:
        self._redis.close()


def _confirms(answer: Any) -> bool:
    """Whether an answer to WAIT, a count, or to WAITAOF, this server's count and its replicas',
    tells that the effects are durable. A refusal does not.
    """
    if isinstance(answer, Exception):
        return False
    return bool(answer[0] if isinstance(answer, list) else answer)


def _waits(facts: Mapping[str, Any]) -> dict[str, tuple[str | int, ...]]:
    """The commands that wait for what this server has, by name; `facts` are its INFO."""
    limit_ms = int(WAIT_S * 1000)
    waits: dict[str, tuple[str | int, ...]] = {}
    version = tuple(int(number) for number in str(facts.get("redis_version", "0")).split(".")[:2])
    if facts.get("aof_enabled") and version >= _WAITAOF_SINCE:
        waits["append-only file"] = ("WAITAOF", 1, 0, limit_ms)
    if facts.get("connected_slaves"):
        waits["replica"] = ("WAIT", 1, limit_ms)
    return waits


# Leader epoch, first and last offset of records that stand in a row.
Span = tuple[int, int, int]


class Lineage(NamedTuple):
    """The leader epochs at which a log parted from what had been applied, in order; `found` of them
    were not known before.
    """

    parted: Sequence[int]
    found: int


class Lineages:
    """The lineages, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts, self._keys = scripts, keys

    def follow(self, spans: Mapping[str, Sequence[Span]]) -> dict[str, Lineage]:
        """Note spans that are about to be applied, by source; returns the lineage of each."""
        if not spans:
            return {}
        arguments: list[Any] = []
        for theirs in spans.values():
            arguments += [len(theirs), *(number for span in theirs for number in span)]
        keys = [self._keys.lineage(source) for source in spans]
        (answers,) = self._scripts.run("lineage", [Call(keys, arguments)])
        return {
            source: Lineage(parted, found)
            for source, (found, parted) in zip(spans, answers, strict=True)
        }


_AT_ONCE: Final = 5_000


class ErasureMarks:
    """The marks. Methods raise `StoreUnavailableError`."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._redis = client
        self._keys = keys.erased("events"), keys.erased("slates")

    @translated()
    def put(self, marks: Mapping[str, ErasureMark]) -> None:
        """Add marks by digest, where none of a later time is."""
        digests = [*marks]
        for begin in range(0, len(digests), _AT_ONCE):
            part = digests[begin : begin + _AT_ONCE]
            for place, key in enumerate(self._keys):
                self._redis.zadd(key, {digest: marks[digest][place] for digest in part}, gt=True)

    @translated()
    def forget(self, before_ms: int) -> None:
        """Delete the marks of erasures that were requested before a time (ms)."""
        for key in self._keys:
            self._redis.zremrangebyscore(key, "-inf", before_ms)

    @translated()
    def of(self, digests: Collection[str]) -> dict[str, ErasureMark]:
        """The marks of those among these digests that are marked."""
        if not self._redis.exists(self._keys[0]):
            return {}
        ordered = list(digests)
        events, slates = (self._redis.zmscore(key, ordered) for key in self._keys)
        return {
            digest: ErasureMark(int(asked_at), int(slates_until or asked_at))
            for digest, asked_at, slates_until in zip(ordered, events, slates, strict=True)
            if asked_at is not None
        }

    @translated()
    def count(self) -> int:
        """The number of marked visitors."""
        return int(self._redis.zcard(self._keys[0]))
