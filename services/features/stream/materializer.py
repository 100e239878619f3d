"""The loop that turns the stream into state: online at once, in the lake in portions, offsets
committed after both.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.features.metrics import FeaturesMetrics
from services.features.settings import FeaturesSettings
from services.features.stream.archive import Archive, NextOffsets
from services.features.stream.people import Settled, is_of_people, settle
from services.features.stream.repeats import Repeats
from services.features.stream.screening import Limits, screened
from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import observe
from slipstream.broker.producer import Outgoing, Producer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import DeadLetter, FeatureUpdate
from slipstream.contracts.positions import Source, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import (
    CATALOG,
    DEAD_LETTERS,
    FEATURE_UPDATES,
    INTERACTIONS,
    RECOMMENDATIONS,
)
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import VisitorState, visitor_features
from slipstream.stores.lake import INTERACTIONS as INTERACTIONS_TABLE
from slipstream.stores.lake import Lake, LakeUnavailableError
from slipstream.stores.online import OnlineStore, StoreUnavailableError

log = get_logger(__name__)

TOPICS: Final = (INTERACTIONS, CATALOG, RECOMMENDATIONS)
GROUP: Final = "features"
_POLL_S: Final = 0.1
_PAUSE_S: Final = 0.25
_DRAIN_S: Final = 8.0
# A rebuild asks for 30 s, and waits for half of it.
_ASK_HOLD_S: Final = 0.5
# The features of a visitor that are announced.
_ANNOUNCED: Final = RECOMMENDER.of(VISITOR)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the stream has been followed. `lag`: records of the assigned partitions not yet read.
    `watermark`: newest event time applied, in ms. `caught_up`: at a moment after the question,
    everything on the assigned partitions was read, applied online and written to the lake.
    """

    applied: int
    lag: int
    watermark: int
    caught_up: bool


class Materializer:
    """Run `run` in a worker thread; the other methods may be called from any thread.

    A record's effects: its visitor, item and trending, or catalogue entry, in Redis at once; its
    row in the lake within `lake_flush_s`. A link between a visitor and a user merges them, a user's
    deletion erases what is kept of it. Then its offset is committed. Whatever fails in between, the
    record is read again and finds its effects done.
    """

    def __init__(
        self,
        settings: FeaturesSettings,
        store: OnlineStore,
        lake: Lake,
        producer: Producer,
        metrics: Metrics,
    ) -> None:
        self._settings, self._own = settings, settings.features
        self._store, self._producer, self._metrics = store, producer, metrics
        self._lake = lake
        self._archive = Archive(
            lake, flush_s=self._own.lake_flush_s, flush_rows=self._own.lake_flush_rows
        )
        self._repeats = Repeats(
            lake, self._archive.positions, int(self._own.repeat_lookback_hours * HOUR_MS)
        )
        self._consumer: Consumer | None = None
        self.watch = ConsumerWatch(metrics)
        # what is in both stores, and when it may be committed
        self._to_commit: deque[tuple[float, Mapping[Source, int]]] = deque()
        self._updates_left, self._updates_at = (
            float(self._own.feature_updates_per_s),
            time.monotonic(),
        )
        self._progress = Progress(0, 0, 0, False)
        self._answers = threading.Condition()
        self._asked = self._answered = 0
        self._redis_failure: str | None = None
        self._lake_failure: str | None = None
        self._limits = Limits(
            int(self._own.max_ahead_hours * HOUR_MS), int(self._own.max_late_hours * HOUR_MS)
        )
        self._hold, self._ask_hold_at = False, 0.0
        self._races_counted = 0
        self._measured = FeaturesMetrics(metrics.registry)

    def run(self, stop: threading.Event) -> None:
        """Follow the stream until `stop` is set; then write what waits, commit and leave the group."""
        kafka, namespace = self._settings.kafka, self._settings.namespace
        consumer = Consumer(
            kafka,
            namespace,
            TOPICS,
            GROUP,
            max_poll_records=self._own.max_poll_records,
            on_revoked=self._abandon,
        )
        self._consumer = consumer
        self.watch.begin(consumer)
        try:
            with contextlib.suppress(StoreUnavailableError):
                self._advance(0, self._store.watermark())
            while not stop.is_set():
                if self._archive.full or self._held():
                    stop.wait(_PAUSE_S)
                else:
                    self._take(consumer.poll(_POLL_S), stop)
                if reached := self._archive.step():
                    self._to_commit.append((time.monotonic() + self._own.durable_after_s, reached))
                self._commit_due(consumer)
                self.watch.update()
                self._answer(consumer)
            self._finish(consumer)
        finally:
            self._archive.abandon()
            self._to_commit.clear()
            self._consumer = None
            consumer.close()

    def progress(self, timeout_s: float = 1.5) -> Progress:
        """How far the stream has been followed, asked of the broker now. Not caught up when there
        is no answer in time.
        """
        with self._answers:
            self._asked += 1
            question = self._asked
            if self._answers.wait_for(lambda: self._answered >= question, timeout_s):
                return self._progress
        known = self._progress
        return Progress(known.applied, known.lag, known.watermark, False)

    async def check_lake(self) -> None:
        """A readiness check: raises while the lake can't be written, or not be asked for the first
        copy of a repeat.
        """
        if failure := self._archive.failure or self._lake_failure:
            raise RuntimeError(failure)

    async def check_redis(self) -> None:
        """A readiness check: raises while states can't be written."""
        if self._redis_failure:
            raise RuntimeError(self._redis_failure)

    def close(self) -> None:
        """Release the writer; call after the worker has stopped."""
        self._archive.close()

    def _take(self, batch: Batch, stop: threading.Event) -> None:
        if not batch:
            self._archive.add(
                batch
            )  # perhaps offsets of records without a value, which have no other effect
            return
        observe(batch, self._metrics)
        accepted, letters, late = screened(batch, now_ms(), self._limits)
        try:
            messages, repeats = self._repeats.without(accepted.messages)
            accepted = replace(accepted, messages=messages)
            self._lake_failure = None
            interactions = [m for m in messages if m.source.topic == INTERACTIONS.name]
            entries = [m for m in messages if m.source.topic == CATALOG.name]
            with self._measured.apply_seconds.time():
                changed = self._store.apply(
                    [StreamInteraction(*m.position, m.record) for m in interactions]
                )
                kept = [m for m in entries if not is_of_people(m.record)]
                self._store.put_catalog([StreamCatalogRecord(*m.position, m.record) for m in kept])
                settled = settle(self._store, [m for m in entries if is_of_people(m.record)])
        except LakeUnavailableError as error:
            self._lake_failure = str(error)
            log.error(
                "the lake can't be asked what may be a repeat; reading waits", reason=str(error)
            )
            self._sit_out(lambda: self._lake.version(INTERACTIONS_TABLE), stop)
            return
        except StoreUnavailableError as error:
            # It stands until a write has succeeded: a Redis that is full or read-only answers, too.
            self._redis_failure = str(error)
            log.error("the online store can't be written; reading waits", reason=str(error))
            self._sit_out(self._store.ping, stop)
            return
        self._redis_failure = None
        self._send_letters(
            letters
        )  # only now: what is read again before this point must not become a letter each time
        self._archive.add(accepted, settled.erasures)
        self._advance(len(messages), max((m.record.timestamp for m in interactions), default=0))
        self._count(late, repeats, settled)
        self._announce(
            changed | settled.changed, {m.record.user_id: m.request_id for m in interactions}
        )

    def _send_letters(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            asyncio.run(
                self._producer.publish(
                    [Outgoing(DEAD_LETTERS, GROUP, one, one.request_id) for one in letters]
                )
            )
        for letter in letters:
            self._measured.rejected.labels(letter.code).inc()

    def _count(self, late: Mapping[int, int], repeats: int, settled: Settled) -> None:
        for hours, events in late.items():
            self._measured.late.labels(str(hours)).inc(events)
        for outcome, links in settled.links.items():
            self._measured.links.labels(outcome).inc(links)
        self._measured.repeats.inc(repeats)
        self._measured.erasures.inc(sum(erasure.source is not None for erasure in settled.erasures))

    def _held(self) -> bool:
        """Whether a rebuild waits for the lake to come to where the online store is. Asked now and
        then, since it is rare.
        """
        if time.monotonic() >= self._ask_hold_at:
            self._ask_hold_at = time.monotonic() + _ASK_HOLD_S
            with contextlib.suppress(StoreUnavailableError):
                self._hold = self._store.held()
        return self._hold

    def _sit_out(self, answers: Callable[[], object], stop: threading.Event) -> None:
        """Wait until a store answers, then read again from the last commit: it may have lost its
        last writes.
        """
        while not stop.wait(_PAUSE_S):
            self.watch.update()
            try:
                answers()
            except (StoreUnavailableError, LakeUnavailableError):
                continue
            self._read_again()
            return

    def _read_again(self) -> None:
        self._archive.abandon()
        self._to_commit.clear()
        self._repeats.forget()
        if self._consumer is not None:
            self._consumer.rewind()
        log.info("reading again from the last commit")

    def _finish(self, consumer: Consumer) -> None:
        """Write what waits and commit it, before the end."""
        self._to_commit.append((0.0, self._archive.drain(_DRAIN_S)))
        self._commit_due(consumer, everything=True)
        self._abandon()

    def _abandon(self) -> None:
        """Drop what is not committed, before partitions go to another member: whoever has them next
        reads it again. The client's thread calls this, and sends no heartbeat meanwhile, so that
        there is no time to write.
        """
        self._archive.abandon()
        self._to_commit.clear()
        self._repeats.forget()

    def _commit_due(self, consumer: Consumer, everything: bool = False) -> None:
        """Commit what both stores have had for long enough, if the Redis that has it is still the
        same.
        """
        offsets: NextOffsets = {}
        while self._to_commit and (everything or self._to_commit[0][0] <= time.monotonic()):
            offsets.update(self._to_commit.popleft()[1])
        if not offsets:
            return
        try:
            restarted = self._store.restarted()
        except StoreUnavailableError:
            restarted = True
        if restarted:
            self._read_again()
        else:
            consumer.commit(offsets)

    def _advance(self, applied: int, newest: int) -> None:
        known = self._progress
        watermark = max(known.watermark, newest)
        self._progress = Progress(known.applied + applied, known.lag, watermark, False)
        self._measured.watermark.set(watermark / 1000)
        self._measured.lost_races.inc(self._store.lost_races - self._races_counted)
        self._races_counted = self._store.lost_races

    def _announce(self, changed: dict[str, VisitorState], newest: Mapping[str, str]) -> None:
        """Tell who has changed, with the features of `RECOMMENDER` as of each visitor's last event;
        a sample when too many.

        `newest` is the request id of each visitor's newest message in the batch.
        """
        now = time.monotonic()
        rate = self._own.feature_updates_per_s
        self._updates_left = min(float(rate), self._updates_left + (now - self._updates_at) * rate)
        self._updates_at = now
        told = list(changed.items())
        if len(told) > self._updates_left:
            told = random.sample(told, int(self._updates_left))
        self._updates_left -= len(told)
        for user_id, state in told:
            update = FeatureUpdate(
                view="visitor",
                entity_id=user_id,
                features=visitor_features(state, state.last_seen, _ANNOUNCED),
                watermark=self._progress.watermark,
                updated_at=now_ms(),
            )
            self._producer.send(FEATURE_UPDATES, user_id, update, newest.get(user_id, ""))

    def _answer(self, consumer: Consumer) -> None:
        """Answer who asked for the progress. The question comes first, so that what was on the
        topics by then is counted.
        """
        asked = self._asked
        if asked == self._answered:
            return
        remaining, known = consumer.remaining(), self._progress
        lag = self.watch.lag if remaining is None else remaining
        with self._answers:
            self._progress = Progress(
                known.applied, lag, known.watermark, remaining == 0 and self._archive.empty
            )
            self._answered = asked
            self._answers.notify_all()
