"""Commits of offsets, which wait until their effects are durable in both stores."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final

from services.features.metrics import FeaturesMetrics
from slipstream.broker.consumer import Consumer
from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import Source
from slipstream.stores.online import Durability, OnlineStore, StoreUnavailableError

log = get_logger(__name__)

# Time after which offsets are committed though Redis does not confirm: a server without fsync never
# does, and a replica may hang. Checkpoints still show what is lost then.
PATIENCE_S: Final = 10.0
# Longest wait for the confirmation of the last offsets, at a stop.
_LAST_WAIT_S: Final = 3.0


@dataclass(slots=True)
class _Question:
    """Offsets whose durability Redis is asked about, since when, and the answer to come."""

    offsets: dict[Source, int]
    since: float
    answer: "Future[Durability]"


class DurableCommits:
    """Offsets on their way to a commit. One thread uses it, that which follows the stream.

    An offset is added when its row is in the lake. Its effect in Redis is older, but a Redis that
    crashes may lose its last writes. So the commit waits for a while, and then until Redis confirms
    that it has the effects on its disk, or a replica has them. Another thread asks that.
    """

    def __init__(
        self,
        store: OnlineStore,
        durable_after_s: float,
        asking: Executor,
        measured: FeaturesMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Commits begin at once.

        Args:
            store: Redis, which is asked.
            durable_after_s: Least time from the lake to the commit, in seconds.
            asking: Runs the questions, one at a time.
            measured: Counts commits that Redis did not confirm.
            clock: The present, in seconds.
        """
        self._store, self._durable_after_s, self._clock = store, durable_after_s, clock
        self._asking, self._measured = asking, measured
        # Moment from which each may be committed, in order of time.
        self._waiting: deque[tuple[float, Mapping[Source, int]]] = deque()
        self._question: _Question | None = None

    def add(self, offsets: Mapping[Source, int]) -> None:
        """Take the next offsets of sources whose rows before them have reached the lake."""
        self._waiting.append((self._clock() + self._durable_after_s, offsets))

    def commit_due(self, consumer: Consumer) -> bool:
        """Commit the offsets that have waited for long enough and are durable.

        Returns False, without a commit, when Redis has lost their effects or is away: what was read
        since the last commit must then be read again.
        """
        if self._question is None:
            self._ask(self._due(self._clock()))
        if self._question is None or not self._question.answer.done():
            return True
        return self._judge(self._question, consumer)

    def commit_all(self, consumer: Consumer) -> bool:
        """Commit every offset that is durable within seconds; returns False as `commit_due` does.

        Without a confirmation nothing is committed: the records are read again at the next start.
        """
        waiting = self._question.offsets if self._question else {}
        self._ask(waiting | self._due(float("inf")))
        if self._question is None:
            return True
        try:
            self._question.answer.exception(_LAST_WAIT_S)
        except TimeoutError:
            return True
        return self._judge(self._question, consumer)

    def clear(self) -> None:
        """Drop what waits: it will be read again."""
        self._waiting.clear()
        self._question = None

    def _due(self, moment: float) -> dict[Source, int]:
        offsets: dict[Source, int] = {}
        while self._waiting and self._waiting[0][0] <= moment:
            offsets.update(self._waiting.popleft()[1])
        return offsets

    def _ask(self, offsets: dict[Source, int], since: float | None = None) -> None:
        if not offsets:
            return
        named = {source.name: offset for source, offset in offsets.items()}
        self._question = _Question(
            offsets,
            self._clock() if since is None else since,
            self._asking.submit(self._store.durability, named),
        )

    def _judge(self, question: _Question, consumer: Consumer) -> bool:
        self._question = None
        try:
            durability = question.answer.result()
        except StoreUnavailableError:
            return False
        if durability is Durability.LOST:
            return False
        if durability is Durability.PENDING:
            if self._clock() - question.since < PATIENCE_S:
                self._ask(question.offsets, question.since)
                return True
            log.warning("offsets are committed though Redis does not confirm that it keeps them")
            self._measured.unconfirmed_commits.inc()
        consumer.commit(question.offsets)
        return True
