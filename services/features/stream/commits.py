"""Commits of offsets, which wait until their effects are durable in both stores."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

from slipstream.broker.consumer import Consumer
from slipstream.contracts.positions import Source
from slipstream.stores.online import OnlineStore, StoreUnavailableError


class DurableCommits:
    """Offsets on their way to a commit. One thread uses it, that which follows the stream.

    An offset is added when its row is in the lake. Its effect in Redis is older, but a Redis that
    crashes may lose its last writes. So the commit waits for a while more, and is not made when
    Redis has restarted meanwhile.
    """

    def __init__(
        self,
        store: OnlineStore,
        durable_after_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._durable_after_s, self._clock = store, durable_after_s, clock
        # Moment from which each may be committed, in order of time.
        self._waiting: deque[tuple[float, Mapping[Source, int]]] = deque()

    def add(self, offsets: Mapping[Source, int]) -> None:
        """Take the next offsets of sources whose rows before them have reached the lake."""
        self._waiting.append((self._clock() + self._durable_after_s, offsets))

    def commit_due(self, consumer: Consumer) -> bool:
        """Commit the offsets that have waited for long enough.

        Returns False, without a commit, when the Redis that took the effects has restarted or is
        away: what was read since the last commit must then be read again.
        """
        return self._commit_until(self._clock(), consumer)

    def commit_all(self, consumer: Consumer) -> bool:
        """Commit every offset now; returns False as `commit_due` does."""
        return self._commit_until(math.inf, consumer)

    def clear(self) -> None:
        """Drop what waits: it will be read again."""
        self._waiting.clear()

    def _commit_until(self, moment: float, consumer: Consumer) -> bool:
        offsets: dict[Source, int] = {}
        while self._waiting and self._waiting[0][0] <= moment:
            offsets.update(self._waiting.popleft()[1])
        if not offsets:
            return True
        try:
            restarted = self._store.restarted()
        except StoreUnavailableError:
            restarted = True
        if restarted:
            return False
        consumer.commit(offsets)
        return True
