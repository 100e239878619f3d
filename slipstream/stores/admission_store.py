"""Redis store that admits events: recent message ids, and the rates of write keys and visitors.

All keys lie in one slot of a cluster (one hash tag), since one script call judges everything that
arrived at the same time. So one node has all of this load. Only ingestion uses this key space.

A call of `admit.lua` judges many requests. Its plan is a string with a code for each request,
followed by a code for each message of it; the answer has a code for each code of the plan.
`admit.lua` gives the same names to the same codes.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, NamedTuple

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoPermissionError, NoScriptError

from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts import times
from slipstream.contracts.vocabulary import UNLEARNED_TTL_MS
from slipstream.stores.connection import FAILURES
from slipstream.stores.redis_clients import single_client
from slipstream.stores.redis_server import redis_memory, refuse_cluster

# Plan, a request: without a limit of its own; or with that of its write key, which is one key.
REQUEST: Final = b"R"
RATED_REQUEST: Final = b"K"
# Plan, a message: the keys to look at, an id, a visitor's rate, both in this order, or none.
NOTHING: Final = b"n"
ID: Final = b"i"
VISITOR: Final = b"v"
ID_AND_VISITOR: Final = b"b"
# Plan, before a message: it links a visitor to a user. One key holds the user's visitors of the
# hour. It has no code in the answer.
LINK: Final = b"l"
# Plan, behind a message: a page sent it. The keys hold what its visitor's items have weighed, and
# count the new visitors of its address and of its write key. It has no code in the first answer,
# and one for each record in the second: its gain in weight, or `UNLEARNED`.
PAGE: Final = b"g"
UNLEARNED: Final = ord("u")
# Answer, a request: its messages are judged; or its write key's rate is exceeded, and none is.
ACCEPTED: Final = b"+"
REFUSED: Final = b"-"
# Answer, a message: its id is new; an attempt is under way or ended without an answer; it was
# acknowledged; its visitor's rate is exceeded; its user has too many visitors; its write key's rate
# of links is exceeded; nothing was looked up, or its request is refused.
FIRST: Final = ord("f")
PENDING: Final = ord("p")
DONE: Final = ord("d")
LIMITED: Final = ord("r")
TOO_MANY: Final = ord("m")
TOO_FAST: Final = ord("s")
UNCHECKED: Final = ord(".")


def digest(text: str) -> str:
    """A name for keys that reveals no id, not even in Redis' files.

    It has 96 bits: among a billion ids, the chance that two share a key is 1 in 10^11.
    """
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Rate(NamedTuple):
    """A rate limit: records a second on average, and at once. 0 a second is no limit."""

    records_per_s: float = 0.0
    burst: int = 1

    @property
    def interval_ms(self) -> float:
        return 1000 / self.records_per_s


class Rates(NamedTuple):
    """The rates of a write key and of each visitor with messages that come with it.

    `links` is that of its new links, and `links_per_hour` how many visitors may become one user
    within an hour; 0 limits neither. `new_visitors` is how many new visitors of an address and day
    are learned from, or 1 % of the key's where that is more; 0 limits them not.
    """

    key: Rate = Rate()
    visitor: Rate = Rate()
    links: Rate = Rate(50.0, 200)
    links_per_hour: int = 0
    new_visitors: int = 0


class PageMessage(NamedTuple):
    """The visitor of a page's message, and its records, each by item (None for none) and weight.

    The address of a `proven` visitor has no budget.
    """

    visitor_id: str
    records: Sequence[tuple[str | None, int]]
    proven: bool


class PageLink(NamedTuple):
    """A visitor that a page links to a user. Proven and other ones are counted separately."""

    visitor_id: str
    user_id: str
    proven: bool


@dataclass(slots=True)
class AdmissionQuery:
    """A request to judge.

    `source` is the name of its write key. `ids` and `visitors` have an entry for each message: the
    key of its id (`AdmissionStore.message_key`) and the visitor to count, each None to leave out.
    `records` has the number of records that each message makes; None for one each. `links` has the
    links to count, by the message's place. `pages` has the messages of pages likewise, and
    `network` a name for the address that they came from.
    """

    source: str
    ids: Sequence[str | None]
    visitors: Sequence[str | None]
    records: Sequence[int] | None = None
    rates: Rates = field(default_factory=Rates)
    links: Mapping[int, PageLink] = field(default_factory=dict)
    pages: Mapping[int, PageMessage] = field(default_factory=dict)
    network: str = ""


class AdmissionVerdict(NamedTuple):
    """The verdict on a request.

    `codes` has `FIRST`, `PENDING` (also: not known), `DONE`, `LIMITED`, `TOO_MANY`, `TOO_FAST` or
    `UNCHECKED` for each message. `wait_ms` is over 0 where the request exceeds its key's rate.
    `counted` is False where no answer came. `learned` has a code for each record of `pages`:
    `UNLEARNED`, or the digit of what it adds to its item's demand. It is empty without an answer.
    """

    codes: bytes
    wait_ms: int = 0
    counted: bool = True
    learned: bytes = b""


class AdmissionCall:
    """One call of the script: the plan and keys of the queries, and the answer's verdicts."""

    __slots__ = ("charges", "keys", "plan", "queries")

    def __init__(self, queries: Sequence[AdmissionQuery], prefix: str) -> None:
        """Lay out the call for the requests, in the order of the verdicts.

        `prefix` begins the keys of write keys and visitors.
        """
        self.queries = queries
        self.keys: list[str] = []
        # For each rate of the plan: records to charge, ms between records, and burst; for each link
        # the visitor, the most visitors, and the ms for which they count.
        self.charges: list[float | str] = []
        plan: list[bytes] = []
        for query in queries:
            records = query.records or [1] * len(query.ids)
            if query.rates.key.records_per_s:
                plan.append(RATED_REQUEST)
                self.keys.append(f"{prefix}s:{query.source}")
                self._charge(sum(records), query.rates.key)
            else:
                plan.append(REQUEST)
            counts = query.rates.visitor.records_per_s > 0
            if not counts and not query.links and not query.pages:
                plan += [ID if key else NOTHING for key in query.ids]
                self.keys += [key for key in query.ids if key]
                continue
            for place, (key, visitor, count) in enumerate(
                zip(query.ids, query.visitors, records, strict=True)
            ):
                if link := query.links.get(place):
                    plan.append(LINK)
                    user = digest(f"{link.proven:d}{link.user_id}")
                    self.keys += (f"{prefix}l:{user}", f"{prefix}k:{query.source}")
                    most = query.rates.links_per_hour
                    self.charges += (digest(link.visitor_id), most, times.HOUR_MS)
                    self._charge(1, query.rates.links)
                visitor = visitor if counts else None
                if key:
                    plan.append(ID_AND_VISITOR if visitor else ID)
                    self.keys.append(key)
                else:
                    plan.append(VISITOR if visitor else NOTHING)
                if visitor:
                    self.keys.append(f"{prefix}v:{digest(visitor)}")
                    self._charge(count, query.rates.visitor)
                if page := query.pages.get(place):
                    plan.append(PAGE)
                    self._page(page, query, prefix)
        self.plan = b"".join(plan)

    def _charge(self, records: int, rate: Rate) -> None:
        self.charges += (records, rate.interval_ms, rate.burst)

    def _page(self, page: PageMessage, query: AdmissionQuery, prefix: str) -> None:
        self.keys += (
            f"{prefix}i:{digest(page.visitor_id)}",
            f"{prefix}a:{query.source}:{query.network}",
            f"{prefix}n:{query.source}",
        )
        most = 0 if page.proven else query.rates.new_visitors
        self.charges += (most, times.DAY_MS, UNLEARNED_TTL_MS, len(page.records))
        for item_id, weight in page.records:
            # 48 bits: an item is one of a visitor's 200.
            self.charges += (digest(item_id)[:12] if item_id and weight else "", weight)

    def verdicts(self, answer: Sequence[Any] | None) -> list[AdmissionVerdict]:
        """The verdict on each query; without an answer, every id is `PENDING`."""
        return list(self._unjudged() if answer is None else self._judged(answer))

    def _unjudged(self) -> Iterator[AdmissionVerdict]:
        for query in self.queries:
            codes = bytes(PENDING if key else UNCHECKED for key in query.ids)
            yield AdmissionVerdict(codes, counted=False)

    def _judged(self, answer: Sequence[Any]) -> Iterator[AdmissionVerdict]:
        codes, learned, waits = answer[0], answer[1], iter(answer[2:])
        at = of_pages = 0
        for query in self.queries:
            first, end = at + 1, at + 1 + len(query.ids)
            refused = codes[at:first] == REFUSED
            pages_end = of_pages + sum(len(page.records) for page in query.pages.values())
            yield AdmissionVerdict(
                codes[first:end],
                int(next(waits)) if refused else 0,
                learned=learned[of_pages:pages_end],
            )
            at, of_pages = end, pages_end


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
            window_ms: time that ids are kept; 0 looks up none.
            log_id: names the log that messages are written to. An id that was acknowledged for
                another log is `PENDING`.
        """
        self._prefix = f"{{{namespace}:admission}}:"
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
        name = digest(f"{source}\0{kind}\0{message_id}")
        return f"{self._prefix}m:{name}"

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
                    # Kept with each id, so shortened: the end tells incarnations apart as well.
                    self._log_id()[-8:], *call.charges, **target,
                )  # fmt: skip
                return answer
            except NoScriptError:
                # Redis has restarted, another one took over, or the slot has moved to one.
                self._sha, self._gap = "", True
