"""Deadlines in the time in which an answer could have been heard.

An event loop that is busy hears late, and a deadline by the clock would then blame the server that
it waits for. So the loop wakes a few times until a deadline, and a wake-up that is late counts as
one in time. Between two of them it has read from all its sockets.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

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
