"""Redis store that admits events: recent message ids, and the rates of write keys and visitors.

All keys lie in one slot of a cluster (one hash tag), since one script call judges everything that
arrived at the same time. So one node has all of this load. Only ingestion uses this key space.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoPermissionError, NoScriptError

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.stores.admission_protocol import (
    AdmissionCall,
    AdmissionQuery,
    AdmissionVerdict,
    digest,
)
from slipstream.stores.connection import FAILURES, connect, translated
from slipstream.stores.redis_clients import single_client
from slipstream.stores.redis_server import redis_memory, refuse_cluster

log = get_logger(__name__)

# A restarted Redis may have forgotten ids. For this long an id that it does not know counts as
# pending, since clients send again within this time.
GAP_MS: Final = 300_000
# Longest time that a request waits for Redis.
LIMIT_S: Final = 0.25
# Time without calls after Redis did not answer.
PAUSE_S: Final = 1.0
# Acknowledged ids wait this long for a script call to travel with.
MARK_AFTER_S: Final = 0.02
# Most acknowledged ids that are kept while Redis is unavailable; the oldest go.
MOST_MARKS: Final = 500_000
MARKS_A_CALL: Final = 5_000


class AdmissionStore:
    """Judges requests. Made and used in one event loop.

    Redis away is no failure: nothing is limited then, every id is `PENDING`, and acknowledged ids
    are kept until Redis is back.
    """

    def __init__(
        self,
        settings: RedisSettings,
        namespace: str,
        *,
        window_ms: int,
        log_id: Callable[[], str] = lambda: "",
    ) -> None:
        """Connects on first use.

        Args:
            settings: the Redis server.
            namespace: begins all keys.
            window_ms: time that ids are kept; 0 looks up none.
            log_id: names the log that messages are written to. An id that was acknowledged for
                another log is `PENDING`.
        """
        self._prefix = _prefix(namespace)
        self._window_ms = window_ms
        self._log_id = log_id
        self._marks: deque[str] = deque(maxlen=MOST_MARKS)
        self._marking: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sha = ""
        self._not_before = 0.0
        self._away = self._gap = False
        self._limit_s = limit_s = min(settings.timeout_s, LIMIT_S)
        # One connection: requests that arrive at the same time travel in one call, and a pool
        # costs as much as the call.
        self._redis: Any = single_client(settings.url.get_secret_value(), limit_s)

    @property
    def remembers(self) -> bool:
        """Whether ids are looked up."""
        return self._window_ms > 0

    def message_key(self, source: str, kind: str, message_id: str) -> str:
        """The key of a message's id."""
        return _message_key(self._prefix, source, kind, message_id)

    async def judge(self, queries: Sequence[AdmissionQuery]) -> list[AdmissionVerdict]:
        """The verdict on each query, in one round trip for all."""
        call = self._call(queries)
        return call.verdicts(await self._run(call))

    def acknowledged(self, keys: Iterable[str]) -> None:
        """Mark these messages' ids as `DONE`, with the next call or soon after."""
        self._marks.extend(keys)
        if self._marks and self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(MARK_AFTER_S, self._mark_soon)

    async def ping(self) -> None:
        """Return when Redis answers, of a cluster the node with these keys; a readiness check."""
        await self._redis.ping(**await self._target())

    async def refuse_server(self) -> None:
        """Raise `RefusedSettingsError` when Redis would evict ids, or where the URL of one server
        leads to a cluster's node.

        One that is unavailable passes.
        """
        with suppress(*FAILURES):
            target = await self._target()
            facts = await self._redis.info(**target)
            if not target:
                refuse_cluster(facts)
            redis_memory(facts)

    async def aclose(self) -> None:
        """Send the marks that wait, unless Redis is unavailable, and close."""
        if self._marking is not None:
            self._marking.cancel()
        while self._marks and await self._run(self._call(())) is not None:
            pass
        with suppress(*FAILURES):
            await self._redis.aclose()

    async def _target(self) -> dict[str, Any]:
        """The option of a command that sends it to the node of a cluster with these keys."""
        if not isinstance(self._redis, RedisCluster):
            return {}
        await self._redis.initialize()
        return {"target_nodes": self._redis.get_node_from_key(self._prefix)}

    def _call(self, queries: Sequence[AdmissionQuery]) -> AdmissionCall:
        return AdmissionCall(queries, self._prefix)

    def _mark_soon(self) -> None:
        self._marking = None
        task = asyncio.ensure_future(self._mark())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mark(self) -> None:
        if self._marks and await self._run(self._call(())) is None and self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(PAUSE_S, self._mark_soon)

    async def _run(self, call: AdmissionCall) -> list[Any] | None:
        """Mark the ids that wait and run the call; None when Redis does not answer."""
        if time.monotonic() < self._not_before:
            return None
        marks = [self._marks.popleft() for _ in range(min(len(self._marks), MARKS_A_CALL))]
        try:
            # Waiting for the one connection counts, too.
            async with asyncio.timeout(self._limit_s):
                answer = await self._evaluate(call, marks)
        except FAILURES as error:
            if not self._away:
                reason = str(error) or f"no answer within {self._limit_s:g} s"
                log.warning("message ids can't be looked up; repeats may pass", reason=reason)
            self._not_before, self._away = time.monotonic() + PAUSE_S, True
            # A Redis that was slow has forgotten nothing. One that was never reached may have: it
            # may restart before it answers.
            self._gap = self._gap or not self._sha
            self._marks.extendleft(reversed(marks))
            return None
        if self._away:
            log.info("message ids are looked up again")
        self._away = self._gap = False
        return answer

    async def _script(self, target: Mapping[str, Any]) -> str:
        """The script, with the server's history in its first line.

        A server that was demoted and took over again keeps its scripts, and has forgotten ids: only
        its history has another name.
        """
        history = None
        with suppress(NoPermissionError):
            history = (await self._redis.info("replication", **target)).get("master_replid")
        return f"-- {history}\n" + files(__package__).joinpath("admit.lua").read_text()

    async def _evaluate(self, call: AdmissionCall, marks: Sequence[str]) -> list[Any]:
        while True:
            target = await self._target()
            if not self._sha:
                text = await self._script(target)
                self._sha = await self._redis.execute_command("SCRIPT LOAD", text, **target)
            elif self._away:  # Another server may answer now.
                text = await self._script(target)
                self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            try:
                answer: list[Any] = await self._redis.execute_command(
                    "EVALSHA", self._sha, 1 + len(marks) + len(call.keys),
                    f"{self._prefix}gap", *marks, *call.keys,
                    self._window_ms or 1, GAP_MS if self._gap else 0, len(marks), call.plan,
                    self._log_id(), *call.charges, **target,
                )  # fmt: skip
                return answer
            except NoScriptError:
                # Redis has restarted, another one took over, or the slot has moved to one.
                self._sha, self._gap = "", True


def forget_interactions(
    settings: RedisSettings, namespace: str, messages: Mapping[str, Collection[str]]
) -> None:
    """Forget ids of interactions' messages, so that each is the first of its id when it comes.

    Args:
        settings: Redis.
        namespace: The namespace of the stack.
        messages: Message ids by the name of the write key that sent them.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    prefix, client = _prefix(namespace), connect(settings)
    keys = [
        _message_key(prefix, source, "", message_id)
        for source, identifiers in messages.items()
        for message_id in identifiers
    ]
    try:
        with translated():
            for start in range(0, len(keys), MARKS_A_CALL):
                client.unlink(*keys[start : start + MARKS_A_CALL])
    finally:
        client.close()


def _prefix(namespace: str) -> str:
    return f"{{{namespace}:admission}}:"


def _message_key(prefix: str, source: str, kind: str, message_id: str) -> str:
    name = digest(f"{source}\0{kind}\0{message_id}")
    return f"{prefix}m:{name}"
