"""The watch over a service's consumer: how far it is behind, and whether it reads at all."""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.log_changes import FaultKind
from slipstream.broker.standing import Standing
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics

log = get_logger(__name__)

# Seconds between two looks, each of which asks the broker.
_LOOK_EVERY_S: Final = 5.0
_UNANSWERED_LIMIT: Final = 2
# Seconds for which a consumer may show a symptom before it is unready and replaced.
PATIENCE_S: Final = 30.0


class ConsumerStalledError(BrokerUnavailableError):
    """A consumer does not read, and its client does not recover by itself.

    Its replacement begins at the last commit.
    """


class SymptomKind(StrEnum):
    """The kind of a symptom, as the metric names it."""

    OUTSIDE = "outside"
    SILENT = "silent"
    UNASSIGNED = "unassigned"
    STUCK = "stuck"


class Symptom(NamedTuple):
    """A sign that a consumer does not read: its kind, and words for people."""

    kind: SymptomKind
    words: str


class _Mark(NamedTuple):
    """The last progress of a consumer: its positions then, the sum of its topics' ends, and its
    number of polls.
    """

    positions: Mapping[Any, int]
    end: int
    polls: int


class ConsumerWatch:
    """Watches a consumer and its replacements: exports the lag, fails readiness, and has a consumer
    replaced that does not read.

    `begin` and `update` belong to the polling thread, `check` to the event loop. Every loop that
    polls has a watch. Without it there is no alert on lag, and a consumer that has silently stopped
    goes unseen.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = metrics
        # An alarm sees an increase only of a series that was there before.
        for kind in SymptomKind:
            metrics.consumer_stalls.labels(kind)
        self._patience_s, self._clock = patience_s, clock
        # The last known lag: records behind, of all topics together.
        self.lag = 0
        self.lag_is_known = False
        self._consumer: Consumer | None = None
        self._began = self._turned = clock()
        self._due = 0.0
        self._unanswered = 0
        self._mark: _Mark | None = None
        self._spare_until = 0.0
        self._symptom: Symptom | None = None
        self._since = 0.0

    def begin(self, consumer: Consumer) -> None:
        """Watch a new consumer. A symptom of its predecessor stands until this consumer reads."""
        self._count_faults()
        self._consumer, self._mark = consumer, None
        self._began = self._turned = self._clock()
        self._due, self._unanswered = 0.0, 0

    def _count_faults(self) -> None:
        """Count what the consumer found of records that are gone, also one that is replaced now."""
        for fault in self._consumer.faults() if self._consumer is not None else ():
            if fault.kind is FaultKind.DELETED:
                self.metrics.unread_deleted.labels(fault.topic).inc(fault.records)
            else:
                self.metrics.log_truncations.labels(fault.topic).inc()

    def update(self) -> None:
        """Set `slipstream_consumer_lag_records` of each topic and look for symptoms.

        Call it after each poll: it asks the broker only every few seconds, and waits at most 2 s
        for the answer. Without an answer the gauge keeps its value.

        Raises:
            ConsumerStalledError: The consumer has not read for `patience_s`.
            BrokerUnavailableError: Several questions in a row had no answer, though the consumer is
                in its group. The broker is unavailable, or the client does not find where to begin.
        """
        now = self._turned = self._clock()
        if now < self._due or self._consumer is None:
            return
        self._due = now + _LOOK_EVERY_S
        self._count_faults()
        standing = self._consumer.standing()
        lag = standing.lag if standing is not None else None
        if lag is not None:
            self.lag, self.lag_is_known = sum(lag.values()), True
            for topic, records in lag.items():
                self.metrics.consumer_lag.labels(topic).set(records)
                self.metrics.malformed.labels(topic)
                self.metrics.unread_deleted.labels(topic)
                self.metrics.log_truncations.labels(topic)
        self._note(self._look(self._consumer, standing, now), now)
        # Answers wait behind that to a join, on the same connection. A consumer that leaves for
        # that makes the rebalance only longer.
        answered = lag is not None or self._outside(self._consumer)
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered >= _UNANSWERED_LIMIT:
            raise BrokerUnavailableError("the broker does not say where reading begins")

    async def check(self) -> None:
        """A readiness check: raises, with the reason, while the consumer has not read for
        `patience_s`.
        """
        now = self._clock()
        if now - self._turned > self._patience_s:
            raise RuntimeError(f"no records were requested in {now - self._turned:.0f} s")
        if self._symptom is not None and now - self._since > self._patience_s:
            raise RuntimeError(f"{self._symptom.words}, for {now - self._since:.0f} s")

    def _note(self, symptom: Symptom | None, now: float) -> None:
        if symptom is None:
            self._symptom = None
            return
        if self._symptom is None:
            self._since = now
        self._symptom = symptom
        if now - max(self._since, self._began) > self._patience_s:
            self.metrics.consumer_stalls.labels(symptom.kind).inc()
            raise ConsumerStalledError(f"{symptom.words}; a new consumer takes its place")

    def _look(self, consumer: Consumer, standing: Standing | None, now: float) -> Symptom | None:
        membership = consumer.membership
        if self._outside(consumer):
            return Symptom(
                SymptomKind.OUTSIDE, f"the consumer is not in its group {consumer.group}"
            )
        if membership is not None and membership.silent_s > self._patience_s:
            return Symptom(
                SymptomKind.SILENT,
                f"the broker has answered no heartbeat in {membership.silent_s:.0f} s",
            )
        if standing is None:
            return self._symptom
        if not standing.partitions:
            return (
                None
                if self._spare(consumer, now)
                else Symptom(SymptomKind.UNASSIGNED, "the consumer has no partition to read")
            )
        positions = {
            partition: position for partition, (position, _) in standing.partitions.items()
        }
        end = sum(end for _, end in standing.partitions.values())
        mark = self._mark
        if mark is None or positions != mark.positions or end < mark.end:
            self._mark = _Mark(positions, end, consumer.polls)
            return None
        # A loop that does not poll does so on purpose, and has a readiness check for the reason.
        if end > mark.end and consumer.polls > mark.polls + 1:
            return Symptom(
                SymptomKind.STUCK,
                f"the consumer gets no records, and its topics have grown by {end - mark.end:,}",
            )
        return None

    @staticmethod
    def _outside(consumer: Consumer) -> bool:
        return consumer.membership is not None and not consumer.membership.joined

    def _spare(self, consumer: Consumer, now: float) -> bool:
        """Whether the consumer rightly has no partition, as the broker said lately."""
        if now >= self._spare_until and consumer.may_be_spare():
            self._spare_until = now + self._patience_s
        return now < self._spare_until
