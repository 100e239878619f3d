"""What ingestion keeps in Redis to judge an event by: the message ids of the last hours, and how
much came from whom.

All of it lies in one slot of a cluster (one hash tag), since one script call judges everything that
came in at the same time. Only ingestion uses this key space.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings

log = get_logger(__name__)

# After Redis has restarted, ids that it does not know may be those that it forgot. Clients try
# again within this.
GAP_MS: Final = 300_000
# No request waits longer for Redis than this.
LIMIT_S: Final = 0.25
# How long Redis is left alone after it did not answer.
PAUSE_S: Final = 1.0
# Acknowledged ids wait this long for a script call to go along with, and so many are kept while
# Redis is away.
MARK_AFTER_S: Final = 0.02
MOST_MARKS: Final = 500_000
MARKS_A_CALL: Final = 5_000

FIRST, PENDING, DONE, LIMITED, NOT_ASKED = b"fpdr."


class Rate(NamedTuple):
    """So many events a second for ever, and so many at once. No limit where the first is 0."""

    events_per_s: float = 0.0
    burst: int = 1

    @property
    def interval_ms(self) -> float:
        return 1000 / self.events_per_s


@dataclass(slots=True)
class AdmissionQuery:
    """A request to judge: the name of its write key, and for each message the id to look up and the
    visitor to count, if any. `ids` are those of `message_key`.
    """

    source: str
    ids: Sequence[str | None]
    visitors: Sequence[str | None]


class AdmissionVerdict(NamedTuple):
    """`wait_ms` is more than 0 where the whole request is above its write key's rate. Else there is
    a letter for each message: `FIRST`; `PENDING`, which also means unknown; `DONE`; `LIMITED`, the
    visitor's rate; `NOT_ASKED`.
    """

    letters: bytes
    wait_ms: int = 0


@dataclass(slots=True)
class _Call:
    """The arguments of one script call, as they gather."""

    plan: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    events: list[int] = field(default_factory=list)


class AdmissionStore:
    """Judges requests. Made and used in one event loop. Redis away is no failure here: nothing is
    limited then, every id that was asked for is `PENDING`, and what was acknowledged is told to
    Redis when it is back.
    """

    def __init__(
        self,
        settings: RedisSettings,
        namespace: str,
        *,
        window_ms: int,
        source_rate: Rate,
        visitor_rate: Rate,
        log_id: Callable[[], str] = lambda: "",
    ) -> None:
        """Ids are kept for `window_ms`; 0: they are not looked at. `log_id` names the log that
        messages are taken into: what was `DONE` in another one is `PENDING`.
        """
        self._prefix = f"{{{namespace}:admission}}:"
        self._window_ms = window_ms
        self._rates = source_rate, visitor_rate
        self._log_id = log_id
        self._marks: deque[str] = deque(maxlen=MOST_MARKS)
        self._marking: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sha = ""
        self._not_before = 0.0
        self._away = self._gap = False
        self._limit_s = limit_s = min(settings.timeout_s, LIMIT_S)
        # One connection: what comes in at the same time travels in one call, and a pool costs as
        # much as the call.
        self._redis: Any = redis.asyncio.Redis.from_url(
            settings.url.get_secret_value(),
            single_connection_client=True,
            socket_timeout=limit_s,
            socket_connect_timeout=limit_s,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def asks(self) -> bool:
        """Whether there is anything to look up at all."""
        return self._window_ms > 0 or self.limits_sources or self.limits_visitors

    @property
    def remembers(self) -> bool:
        """Whether ids are looked up."""
        return self._window_ms > 0

    @property
    def limits_sources(self) -> bool:
        return self._rates[0].events_per_s > 0

    @property
    def limits_visitors(self) -> bool:
        return self._rates[1].events_per_s > 0

    def message_key(self, source: str, kind: str, message_id: str) -> str:
        """The key of a message's id. 96 bits: among a billion ids, one in 10^11 is taken for
        another.
        """
        digest = hashlib.blake2b(f"{source}\0{kind}\0{message_id}".encode(), digest_size=12)
        return f"{self._prefix}m:{digest.hexdigest()}"

    async def judge(self, requests: Sequence[AdmissionQuery]) -> list[AdmissionVerdict]:
        """A verdict for each request. One round trip for all of them."""
        call = _Call()
        for request in requests:
            self._plan(request, call)
        answer = await self._run(call)
        if answer is None:
            return [
                AdmissionVerdict(bytes(PENDING if key else NOT_ASKED for key in request.ids))
                for request in requests
            ]
        letters, waits = answer[0], iter(answer[1:])
        judged: list[AdmissionVerdict] = []
        at = 0
        for request in requests:
            end = at + 1 + len(request.ids)
            refused = letters[at] == ord("-")
            judged.append(
                AdmissionVerdict(letters[at + 1 : end], int(next(waits)) if refused else 0)
            )
            at = end
        return judged

    def acknowledged(self, keys: Iterable[str]) -> None:
        """These messages are taken for good: their ids are `DONE` soon. Told along with the next
        judgement.
        """
        self._marks.extend(keys)
        if self._marks and self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(MARK_AFTER_S, self._mark_soon)

    async def ping(self) -> None:
        """A readiness check: returns when Redis answers."""
        await self._redis.ping()

    async def aclose(self) -> None:
        """Tell Redis what it was not told yet, and close, whether it is there or not."""
        if self._marking is not None:
            self._marking.cancel()
        while self._marks and await self._run(_Call()) is not None:
            pass
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    def _plan(self, request: AdmissionQuery, call: _Call) -> None:
        if self.limits_sources:
            call.plan.append(b"K")
            call.keys.append(f"{self._prefix}s:{request.source}")
            call.events.append(len(request.ids))
        else:
            call.plan.append(b"R")
        if self.limits_visitors:
            for key, visitor in zip(request.ids, request.visitors, strict=True):
                call.plan.append((b"b" if visitor else b"i") if key else b"v" if visitor else b"n")
                if key:
                    call.keys.append(key)
                if visitor:
                    call.keys.append(f"{self._prefix}v:{visitor}")
        else:
            call.plan.append(bytes([105 if key else 110 for key in request.ids]))  # i, n
            call.keys += [key for key in request.ids if key]

    def _mark_soon(self) -> None:
        self._marking = None
        task = asyncio.ensure_future(self._mark())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mark(self) -> None:
        if self._marks and await self._run(_Call()) is None and self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(PAUSE_S, self._mark_soon)

    async def _run(self, call: _Call) -> list[Any] | None:
        """Run the script, with what was acknowledged lately; None when Redis does not answer."""
        if time.monotonic() < self._not_before:
            return None
        marks = [self._marks.popleft() for _ in range(min(len(self._marks), MARKS_A_CALL))]
        try:
            # There is one connection, and waiting for it counts, too.
            async with asyncio.timeout(self._limit_s):
                answer = await self._evaluate(call, marks)
        except (RedisError, OSError) as error:
            if not self._away:
                reason = str(error) or f"no answer within {self._limit_s:g} s"
                log.warning(
                    "message ids can't be looked up; what comes in may be repeats", reason=reason
                )
            self._not_before, self._away = time.monotonic() + PAUSE_S, True
            # One that was only slow has forgotten nothing. One that we have not known yet may have,
            # before it came back.
            self._gap = self._gap or not self._sha
            self._marks.extendleft(reversed(marks))
            return None
        if self._away:
            log.info("message ids are looked up again")
        self._away = self._gap = False
        return answer

    async def _evaluate(self, call: _Call, marks: Sequence[str]) -> list[Any]:
        source, visitor = (rate if rate.events_per_s else Rate(1.0) for rate in self._rates)
        while True:
            if not self._sha:
                self._sha = await self._redis.script_load(
                    files(__package__).joinpath("admit.lua").read_text()
                )
            try:
                answer: list[Any] = await self._redis.execute_command(
                    "EVALSHA", self._sha, 1 + len(marks) + len(call.keys), f"{self._prefix}gap", *marks, *call.keys,
                    self._window_ms or 1, GAP_MS if self._gap else 0, len(marks), b"".join(call.plan),
                    source.interval_ms, source.burst, visitor.interval_ms, visitor.burst, self._log_id(), *call.events,
                )  # fmt: skip
                return answer
            except NoScriptError:
                # It has restarted, and may have forgotten what it was told last.
                self._sha, self._gap = "", True
