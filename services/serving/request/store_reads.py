"""Reads of the online store for requests, and the load of requests that are in work.

Reads have a budget and stand behind a circuit breaker.

Deadlines are in the time in which an answer could have been heard. An event loop that is busy hears
late, and a deadline by the clock would then blame the server that it waits for. So the loop wakes a
few times until a deadline, and a wake-up that is late counts as one in time. Between two of them it
has read from all its sockets.

How long one more request would wait follows from Little's law: it waits for the requests in work,
each for as long as lies between two lists (J. D. C. Little, A Proof for the Queuing Formula L = λW,
1961). One of many lists counts once, since it lets others go first between two of its lists.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from cachetools import LRUCache

from services.serving.metrics import ServingMetrics
from slipstream.chassis.errors import ServiceError, TooManyRequestsError
from slipstream.chassis.logging import get_logger
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import StoreUnavailableError, VisitorValue

# Share of the newest list in the mean time between lists. A single pause must not look like
# load.
_NEWEST: Final = 0.02


class OverloadedError(ServiceError):
    """A request would wait longer than it may."""

    status, code, title = 503, "overloaded", "There is more to do than can be done in time"

    def __init__(self, wait_s: float, longest_s: float) -> None:
        super().__init__(
            f"The request would wait for about {wait_s * 1000:.0f} ms, and may for "
            f"{longest_s * 1000:.0f}; add processes or replicas of serving, or allow more "
            "(SLIPSTREAM_SERVING__LONGEST_WAIT_S)",
            headers={"Retry-After": str(max(1, math.ceil(wait_s)))},
        )


class Load:
    """The requests in work, and the time that a list takes. Used in one event loop.

    Args:
        longest_s: Longest wait with which a request is taken.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s, self._clock = longest_s, clock
        self._requests, self._list_s, self._since = 0, 0.0, 0.0

    @property
    def wait_s(self) -> float:
        """The time until a request that comes now would begin to be answered."""
        return self._requests * self._list_s

    @contextmanager
    def taken(self, lists: int = 1) -> Iterator[None]:
        """Count a request for `lists` lists for as long as the block runs.

        Raises `OverloadedError` where it would wait too long. A request that is alone is
        always taken.
        """
        if (wait_s := self.wait_s) > self._longest_s:
            raise OverloadedError(wait_s, self._longest_s)
        if not self._requests:
            self._since = self._clock()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            if lists:
                now = self._clock()
                # Time without a request in work says nothing of what a list takes.
                took_s, self._since = (now - self._since) / lists, now
                weight = 1 - (1 - _NEWEST) ** lists
                self._list_s += weight * (min(took_s, self._longest_s) - self._list_s)


# Most keys with a known rate. The least recent one may ask for a whole second again.
_MOST_KEYS: Final = 10_000


class KeyRates:
    """Token buckets of keys, which hold the lists of one second. Of one event loop.

    Args:
        lists_per_s: Lists that a key may ask for in a second; 0 for any number.
        clock: Seconds of a monotonic clock.
        setting: The setting of `lists_per_s`.
    """

    def __init__(
        self,
        lists_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        setting: str = "SLIPSTREAM_SERVING__LISTS_PER_S",
    ) -> None:
        self._per_s, self._clock, self._setting = lists_per_s, clock, setting
        # For each key, the time at which its bucket is full again.
        self._full_at: LRUCache[str, float] = LRUCache(_MOST_KEYS)

    def take(self, key: str, lists: int = 1) -> None:
        """Count lists that a key asks for. Raises `TooManyRequestsError` where there are too many.

        A request for more lists than a bucket holds is taken from a full one, and paid for later.
        """
        if not self._per_s:
            return
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now)
        wait_s = full_at - now + min(lists / self._per_s, 1.0) - 1.0
        if wait_s > 1e-9:
            raise TooManyRequestsError(
                f"{key} asks for more than {self._per_s:g} lists a second ({self._setting})",
                retry_after_s=math.ceil(wait_s),
                limit=math.floor(self._per_s),
            )
        self._full_at[key] = full_at + lists / self._per_s


class Turnstile:
    """A gate that lets one task on in each turn of the event loop, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def passed(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)


# Failures in a row after which a server is not asked any more: more than one lost packet brings.
# Reads that began before the last one failed are no further ones: they may have shared its command.
FAILURES = 3
# Time until it is asked again, and after each such try.
PAUSE_S = 0.5


class CircuitBreaker:
    """Whether a server is asked: not after failures in a row, but for a probe now and then.

    Args:
        changed: Told whether the circuit is open now.
        clock: Seconds of a monotonic clock.
        pause_s: Time until the first probe, and after each.
    """

    def __init__(
        self,
        changed: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._changed, self.now = changed, clock
        self._most, self._pause_s = failures, pause_s
        self._failures, self._failed_at, self._probe_at = 0, float("-inf"), 0.0
        self.open = False

    def succeeded(self) -> None:
        self._failures = 0
        if self.open:
            self.open = False
            self._changed(False)

    def failed(self, began: float) -> None:
        """Count the failure of a read that began at this time."""
        now = self.now()
        self._probe_at = now + self._pause_s
        if began < self._failed_at:
            return
        self._failures, self._failed_at = self._failures + 1, now
        if not self.open and self._failures >= self._most:
            self.open = True
            self._changed(True)

    def takes_probe(self) -> bool:
        """Whether a probe is due; the next one is due after a pause."""
        if not self.open or self.now() < self._probe_at:
            return False
        self._probe_at = self.now() + self._pause_s
        return True


log = get_logger(__name__)

T = TypeVar("T")
TrendingItem = tuple[str, float]
# A visitor, and the time of their newest event in ms.
ActiveVisitor = tuple[str, int]
# A user, and their state.
UserState = tuple[str, VisitorState]

# Wake-ups of the loop until a deadline. An answer takes about four turns of the loop, from its
# first byte to the task that waits for it.
TICKS = 10


@dataclass(slots=True)
class Budget:
    """The time, in s, that a request may still wait, for whatever it waits for."""

    left_s: float


class HearingClock:
    """Seconds for which the event loop could hear while anybody waited.

    Used in one event loop. It wakes only while somebody waits.

    Args:
        tick_s: Time between two wake-ups, the most that one of them counts.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._heard_s, self._ticked_at = 0.0, 0.0
        self._waiting: dict[asyncio.Timeout, float] = {}
        self._ticker: asyncio.TimerHandle | None = None

    async def wait(self, answer: Awaitable[T], budget: Budget) -> T:
        """The awaited answer; what it took is off the budget.

        Raises TimeoutError, and cancels the wait, when the budget is spent.
        """
        began_s = self._heard_s
        try:
            async with asyncio.timeout(None) as limit:
                self._waiting[limit] = began_s + budget.left_s
                if self._ticker is None:
                    loop = asyncio.get_running_loop()
                    self._ticked_at = loop.time()
                    self._ticker = loop.call_later(self._tick_s, self._tick, loop)
                try:
                    return await answer
                finally:
                    del self._waiting[limit]
        finally:
            budget.left_s -= self._heard_s - began_s

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._heard_s += min(now - self._ticked_at, self._tick_s)
        self._ticked_at = now
        for limit, deadline_s in self._waiting.items():
            # With half a tick less to wait, the next one would be late.
            if limit.when() is None and deadline_s - self._heard_s < self._tick_s / 2:
                limit.reschedule(now)
        self._ticker = loop.call_later(self._tick_s, self._tick, loop) if self._waiting else None


class OnlineFeatures(Protocol):
    """Reads of the online store, which raise `StoreUnavailableError`."""

    def node(self, user_id: str | None = None) -> str:
        """The node of a cluster that holds a visitor's state, or with None the lists of demand."""

    async def visitor_value(self, user_id: str) -> VisitorValue | None: ...

    async def trending(self, n: int, window: str = "") -> Sequence[TrendingItem]: ...

    async def active_visitors(self, n: int) -> Sequence[ActiveVisitor]: ...

    async def users(self, visitor_ids: Sequence[str]) -> Mapping[str, UserState]: ...


class StoreReads:
    """Reads that end in time, and at once while the store is known to be away.

    A probe reads in the background, so that no visitor waits for it. Of a cluster each node has a
    circuit of its own: while one is away, what the others hold is read. All methods raise
    `StoreUnavailableError`, whatever the fault.

    Args:
        timeout_s: Time for which one request may wait for the store, in all its reads.
    """

    def __init__(self, online: OnlineFeatures, measured: ServingMetrics, timeout_s: float) -> None:
        self._online, self._measured, self._timeout_s = online, measured, timeout_s
        self._clock = HearingClock(timeout_s / TICKS)
        # By the node of a cluster. One server, and a read of many visitors, have the name "".
        self._breakers: dict[str, CircuitBreaker] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}

    def budget(self) -> Budget:
        """The waiting time of a request."""
        return Budget(self._timeout_s)

    async def visitor(self, user_id: str, budget: Budget) -> VisitorValue | None:
        """The visitor's state, not decoded yet; None for an unknown one."""
        node = self._online.node(user_id)
        return await self._read(lambda: self._online.visitor_value(user_id), budget, node)

    async def trending(self, n: int, budget: Budget, window: str = "") -> Sequence[TrendingItem]:
        """The `n` items in most demand, highest first: now, or in a window of popular items."""
        node = self._online.node()
        return await self._read(lambda: self._online.trending(n, window), budget, node)

    async def active_visitors(self, n: int, budget: Budget) -> Sequence[ActiveVisitor]:
        """The `n` visitors who were active last, latest first."""
        node = self._online.node()
        return await self._read(lambda: self._online.active_visitors(n), budget, node)

    async def users(self, visitor_ids: Sequence[str], budget: Budget) -> Mapping[str, UserState]:
        """For each of these visitors who is known, the user that they are, and the user's state."""
        return await self._read(lambda: self._online.users(visitor_ids), budget)

    async def wait(self, answer: Awaitable[T], budget: Budget) -> T:
        """The result of a read that others share; it goes on when the budget is spent."""
        try:
            if budget.left_s <= 0:
                raise TimeoutError
            return await self._clock.wait(asyncio.shield(answer), budget)
        except TimeoutError as error:
            raise StoreUnavailableError("no answer in time") from error

    async def _read(self, read: Callable[[], Awaitable[T]], budget: Budget, node: str = "") -> T:
        breaker = self._breakers.get(node) or self._new_breaker(node)
        if breaker.open:
            if breaker.takes_probe():
                self._probes[node] = asyncio.create_task(self._ask_again(read, breaker))
            raise StoreUnavailableError("the online store did not answer a moment ago")
        if budget.left_s <= 0:
            raise StoreUnavailableError("the time for the online store is spent")
        began = breaker.now()
        try:
            result = await self._clock.wait(read(), budget)
        except TimeoutError as error:
            breaker.failed(began)
            raise StoreUnavailableError("no answer in time") from error
        except StoreUnavailableError:
            breaker.failed(began)
            raise
        except Exception as error:
            self._measured.failed("online_store_reader", error)
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
        breaker.succeeded()
        return result

    async def _ask_again(
        self, read: Callable[[], Awaitable[object]], breaker: CircuitBreaker
    ) -> None:
        began = breaker.now()
        try:
            await self._clock.wait(read(), self.budget())
        except Exception:  # whatever it is, the circuit stays open
            breaker.failed(began)
        else:
            breaker.succeeded()

    def _new_breaker(self, node: str) -> CircuitBreaker:
        """A circuit for a node that is read for the first time.

        It may have taken over from an unavailable one, which is read no more. So open circuits
        start again.
        """
        self._breakers = {name: each for name, each in self._breakers.items() if not each.open}
        self._breakers[node] = CircuitBreaker(partial(self._circuit_changed, node))
        self._tell_whether_open()
        return self._breakers[node]

    def _tell_whether_open(self) -> None:
        is_open = any(breaker.open for breaker in self._breakers.values())
        self._measured.store_circuit_open.set(is_open)

    def _circuit_changed(self, node: str, is_open: bool) -> None:
        self._tell_whether_open()
        of_node = {"node": node} if node else {}
        if is_open:
            log.warning("the online store does not answer; requests go on without it", **of_node)
        else:
            log.info("the online store answers again", **of_node)
