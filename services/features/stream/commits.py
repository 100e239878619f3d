"""Commits of offsets, which wait until their effects are durable in both stores; and their
rollback.

Redis may have lost its last writes, and stand where it stood some time ago: after a crash that cuts
its append-only file, after a failover to a replica that lagged, and from a backup. Each consumer
finds that out by itself, from the checkpoints of its sources. A log may part from what had been
applied of it: its source has another name then.
"""

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Final

from services.features.metrics import FeaturesMetrics
from slipstream.broker.consumer import Consumer
from slipstream.broker.log_changes import EpochSpan
from slipstream.broker.records import Batch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import Source
from slipstream.stores.online import CheckpointMove, Durability, OnlineStore, StoreUnavailableError

log = get_logger(__name__)

# Time after which offsets are committed though Redis does not confirm: a server without fsync never
# does, and a replica may hang. Checkpoints still show what is lost then.
PATIENCE_S: Final = 10.0
# Longest wait for the confirmation of the last offsets, at a stop.
_LAST_WAIT_S: Final = 3.0


@dataclass(slots=True)
class _Question:
    """Offsets that wait for Redis' confirmation of durability, since when, and the answer."""

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
        """Take the next offsets of sources; all rows before these have reached the lake."""
        self._waiting.append((self._clock() + self._durable_after_s, offsets))

    def commit_due(self, consumer: Consumer) -> bool:
        """Commit the offsets that have waited for long enough and are durable.

        Returns False, without a commit, when Redis has lost their effects or is unavailable: the
        records since the last commit must then be read again.
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


class StoreRolledBackError(StoreUnavailableError):
    """Redis lacks effects that it had; the records have to be read again."""


class RollbackWatch:
    """Checkpoints of the sources that one consumer reads. One thread uses it.

    Methods raise `StoreUnavailableError`.
    """

    def __init__(self, store: OnlineStore, measured: FeaturesMetrics) -> None:
        self._store, self._measured = store, measured
        # The least that each source's checkpoint has to be. One that is unknown here was not read
        # by this consumer yet.
        self._least: dict[Source, int] = {}

    def forget(self) -> None:
        """Forget the sources: partitions come or go."""
        self._least.clear()

    def verify(self, reached: Mapping[Source, int]) -> None:
        """Raise `StoreRolledBackError` if Redis lacks effects that it had.

        Call before records are applied: a state that lost a record must not take a later one of
        its source, since the lost one would then pass for applied.

        Args:
            reached: where reading stands in each source. Another consumer may have read up to
                there, so Redis must have the effects of what lies before.
        """
        sources = {**reached, **self._least}
        held = self._store.checkpoints([source.name for source in sources])
        for source in sources:
            now, least = held.get(source.name), self._least.get(source)
            if least is None:
                if now is None:  # A new topic.
                    continue
                least = self._least[source] = reached[source]
            if now is None or now < least:
                raise StoreRolledBackError(
                    f"Redis has lost writes: of {source.topic}:{source.partition} it has what "
                    f"lies before offset {now or 0}, and had what lies before {least}"
                )

    def advance(self, next_offsets: Mapping[Source, int]) -> None:
        """Note that everything before these offsets has been applied.

        Raises `StoreRolledBackError` if Redis has lost writes meanwhile.
        """
        moves = {
            source.name: CheckpointMove(self._least.get(source, -1), offset)
            for source, offset in next_offsets.items()
        }
        if not self._store.advance(moves):
            raise StoreRolledBackError("Redis has lost writes while a batch was applied")
        for source, offset in next_offsets.items():
            self._least[source] = max(offset, self._least.get(source, -1))

    def resume(self, sources: Iterable[Source]) -> dict[Source, int]:
        """The offset of each source from which on effects may be missing, where that is known.

        Reading has to go on from there. Losses are logged and counted here, however they showed.
        """
        by_name = {source.name: source for source in {*sources, *self._least}}
        held = self._store.checkpoints([*by_name])
        lost = sorted(
            f"{source.topic}:{source.partition} from {held.get(source.name, 0)} to {least}"
            for source, least in self._least.items()
            if held.get(source.name, -1) < least
        )
        if lost:
            log.error("Redis has lost writes; they are read again", lost=lost)
            self._measured.rollbacks.inc()
        self._least = {by_name[name]: offset for name, offset in held.items()}
        return dict(self._least)


class LogLineages:
    """Gives records that took the offsets of lost ones a source of their own. One thread uses it.

    Without that, a state that holds a lost record would drop the new one as applied.
    """

    def __init__(self, store: OnlineStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        # The newest name of each source, by its first.
        self._newest: dict[Source, Source] = {}

    def forget(self) -> None:
        """Forget the sources: partitions come or go."""
        self._newest.clear()

    def positions(self, consumer: Consumer) -> dict[Source, int]:
        """The consumer's next offsets, by the newest name of each source. Raises
        `StoreUnavailableError`.
        """
        positions = consumer.positions()
        new = {source.name: source for source in positions if source not in self._newest}
        for name, (parted, _) in self._store.follow(dict.fromkeys(new, ())).items():
            self._note(new[name], parted)
        return {self._newest.get(source, source): offset for source, offset in positions.items()}

    def named(self, batch: Batch, consumer: Consumer) -> Batch:
        """The batch with its records' sources. Call before any of it is applied.

        Where a log has parted just now, the consumer commits that, so that the offsets of lost
        records, which may be under way, are never committed. Raises `StoreUnavailableError`.
        """
        spans = {source: theirs for source, theirs in batch.spans.items() if theirs[-1].epoch >= 0}
        lineages = self._store.follow({source.name: theirs for source, theirs in spans.items()})
        begun: dict[Source, list[tuple[int, Source]]] = {}
        for source, theirs in spans.items():
            parted, found = lineages[source.name]
            self._note(source, parted)
            if not parted:
                continue
            begun[source] = _begun(source, theirs, parted)
            if found:
                offset, since = begun[source][-1]
                log.error(
                    "records that were applied are lost from the log; others took their offsets",
                    topic=source.topic, partition=source.partition, offset=offset,
                )  # fmt: skip
                self._metrics.log_truncations.labels(source.topic).inc()
                consumer.commit({since: offset})
        return _renamed(batch, begun) if begun else batch

    def _note(self, source: Source, parted: Sequence[int]) -> None:
        self._newest[source] = source.since(parted[-1]) if parted else source


def _begun(
    source: Source, spans: Sequence[EpochSpan], parted: Sequence[int]
) -> list[tuple[int, Source]]:
    """The offsets at which the source's name changes in these spans, with the name from there."""
    begun: list[tuple[int, Source]] = []
    for span in spans:
        earlier = bisect_right(parted, span.epoch)
        name = source.since(parted[earlier - 1]) if earlier else source
        if not begun or begun[-1][1] != name:
            begun.append((span.first, name))
    return begun


def _renamed(batch: Batch, begun: dict[Source, list[tuple[int, Source]]]) -> Batch:
    def name(source: Source, offset: int) -> Source:
        names = begun.get(source)
        return source if names is None else [to for first, to in names if first <= offset][-1]

    first, following = dict(batch.first_offsets), dict(batch.next_offsets)
    for source, names in begun.items():
        end = following.pop(source)
        del first[source]
        ends = [*(offset for offset, _ in names[1:]), end]
        for (offset, to), its_end in zip(names, ends, strict=True):
            first[to], following[to] = offset, its_end
    return Batch(
        messages=[replace(each, source=name(each.source, each.offset)) for each in batch.messages],
        malformed=[
            replace(each, source=name(each.source, each.offset)) for each in batch.malformed
        ],
        next_offsets=following,
        first_offsets=first,
        spans=batch.spans,
    )
