"""The loop that turns the stream into state.

A batch takes effect online at once and in the lake in portions. Its offsets are committed after
both. The loop waits for the end of an outage of a store, which readiness checks name, and pauses
for a rebuild of the online store. It answers questions about its progress along the stream.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from services.features.history.archive import Archive
from services.features.metrics import FeaturesMetrics
from services.features.settings import FeaturesSettings
from services.features.stream.commits import (
    DurableCommits,
    LogLineages,
    RollbackWatch,
    StoreRolledBackError,
)
from services.features.stream.online_effects import (
    FeatureAnnouncer,
    OnlineEffects,
    PeopleChanges,
)
from services.features.stream.screening import Limits, Repeats, missed_patches, screen
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.records import Batch, observe, traced
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import Interaction
from slipstream.contracts.late_records import without_late
from slipstream.contracts.positions import Source
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import HISTORY, RECOMMENDATIONS
from slipstream.stores.lake import INTERACTIONS, Lake, LakeLease, LakeUnavailableError
from slipstream.stores.online import OnlineStore, StoreFormatError, StoreUnavailableError

log = get_logger(__name__)

_ASK_EVERY_S: Final = 0.25


class StoreOutages:
    """Outages that reading waits for.

    `redis` and `lake` say why a store can't be used; None while it can. The caller clears them
    after a use that succeeded: a Redis that is full or read-only answers, but takes no writes.
    """

    def __init__(self, store: OnlineStore, lake: Lake, watch: ConsumerWatch) -> None:
        self._store, self._lake, self._watch = store, lake, watch
        self.redis: str | None = None
        self.lake: str | None = None

    def wait(
        self, error: StoreUnavailableError | LakeUnavailableError, stop: threading.Event
    ) -> bool:
        """Wait until the store that failed answers; False when `stop` was set before that.

        A Redis that has lost writes answers already.
        """
        if isinstance(error, StoreRolledBackError):
            return True
        if isinstance(error, LakeUnavailableError):
            self.lake = str(error)
            log.error("the lake can't be searched for repeats; reading waits", reason=str(error))
            return self._wait(lambda: self._lake.version(INTERACTIONS), stop)
        self.redis = str(error)
        log.error("the online store can't be written; reading waits", reason=str(error))
        return self._wait(self._store.ping, stop)

    def _wait(self, question: Callable[[], object], stop: threading.Event) -> bool:
        while not stop.wait(_ASK_EVERY_S):
            self._watch.update()
            try:
                question()
            except (StoreUnavailableError, LakeUnavailableError):
                continue
            return True
        return False


# A rebuild asks for a pause of 30 s, and waits for half of it.
_HOLD_ASKED_EVERY_S: Final = 0.5


class RebuildHold:
    """The pause that a rebuild asks for, so that the lake comes to where the online store is."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._asked_for, self._ask_at = False, 0.0

    def asked_for(self) -> bool:
        """Whether a rebuild waits. Redis is asked now and then only, since rebuilds are rare."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _HOLD_ASKED_EVERY_S
            with contextlib.suppress(StoreUnavailableError):
                self._asked_for = self._store.held()
        return self._asked_for


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """Progress along the stream at one moment.

    `applied` counts records since the start, `lag` those of the assigned partitions that are not
    yet read. `watermark` is the newest event time applied, in ms. `caught_up`: at a moment after
    the question, everything on the assigned partitions was read, applied online and in the lake.
    """

    applied: int
    lag: int
    watermark: int
    caught_up: bool


class StreamProgressReporter:
    """Progress of one consumer. The thread that polls advances and answers; any thread asks."""

    def __init__(self, watch: ConsumerWatch, archive: Archive, measured: FeaturesMetrics) -> None:
        self._watch, self._archive, self._measured = watch, archive, measured
        self._progress = StreamProgress(0, 0, 0, False)
        self._answers = threading.Condition()
        self._questions = self._answered = 0

    @property
    def watermark(self) -> int:
        """The newest event time applied, in ms."""
        return self._progress.watermark

    def advance(self, applied: int, newest: int) -> None:
        """Count `applied` more records; `newest` is their newest event time in ms, 0 for none."""
        before = self._progress
        watermark = max(before.watermark, newest)
        self._progress = replace(
            before, applied=before.applied + applied, watermark=watermark, caught_up=False
        )
        self._measured.watermark.set(watermark / 1000)

    def ask(self, timeout_s: float) -> StreamProgress:
        """The progress, with the lag as the broker tells it now.

        Without an answer in time it is the last known, and not caught up.
        """
        with self._answers:
            self._questions += 1
            question = self._questions
            if self._answers.wait_for(lambda: self._answered >= question, timeout_s):
                return self._progress
        return replace(self._progress, caught_up=False)

    def answer(self, consumer: Consumer) -> None:
        """Answer the questions that wait.

        They are counted before the broker is asked, so the answer covers every record that was on
        the topics when a question came.
        """
        questions = self._questions
        if questions == self._answered:
            return
        remaining, before = consumer.remaining(), self._progress
        lag = self._watch.lag if remaining is None else remaining
        caught_up = remaining == 0 and self._archive.empty
        with self._answers:
            self._progress = replace(before, lag=lag, caught_up=caught_up)
            self._answered = questions
            self._answers.notify_all()


TOPICS: Final = HISTORY
GROUP: Final = "features"
_POLL_S: Final = 0.1
_PAUSE_S: Final = 0.25
_DRAIN_S: Final = 8.0
# Interval at which an idle consumer, too, looks whether Redis has lost writes.
_VERIFY_EVERY_S: Final = 1.0


class Materializer:
    """Follows the stream. `run` is for a worker thread; other methods are safe in any thread.

    A record's effects: its visitor, item and trending, or catalogue entry, in Redis at once; its
    row in the lake within `lake_flush_s`. A link between a visitor and a user merges them, a user's
    deletion erases the user's data. Then the offset is committed. Whatever fails in between, the
    record is read again and finds its effects done.
    """

    def __init__(
        self,
        settings: FeaturesSettings,
        store: OnlineStore,
        lake: Lake,
        producer: Producer,
        metrics: Metrics,
        lease: LakeLease,
    ) -> None:
        section = settings.features
        self._settings, self._store, self._metrics = settings, store, metrics
        self._measured = FeaturesMetrics(metrics.registry)
        self._limits = Limits(
            int(section.max_ahead_hours * HOUR_MS), int(section.max_late_hours * HOUR_MS)
        )
        self.watch = ConsumerWatch(metrics)
        self._archive = Archive(
            lake,
            flush_s=section.lake_flush_s,
            flush_rows=section.lake_flush_rows,
            flush_bytes=section.lake_flush_bytes,
            held=lease.held,
        )
        self._repeats = Repeats(
            lake, self._archive.positions, int(section.repeat_lookback_hours * HOUR_MS)
        )
        self._online = OnlineEffects(store, self._measured)
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="durability")
        self._commits = DurableCommits(store, section.durable_after_s, self._asking, self._measured)
        self._rollbacks = RollbackWatch(store, self._measured)
        self._lineages = LogLineages(store, metrics)
        self._verify_at = 0.0
        self._announcer = FeatureAnnouncer(producer, section.feature_updates_per_s, self._measured)
        self._progress = StreamProgressReporter(self.watch, self._archive, self._measured)
        self._outages = StoreOutages(store, lake, self.watch)
        self._hold = RebuildHold(store)

    def run(self, stop: threading.Event) -> None:
        """Follow the stream until `stop` is set.

        Then write what waits for the lake, commit it and leave the group. Raises `StoreFormatError`
        where Redis has a value of another version, at the start or when it is read.
        """
        consumer = Consumer(
            self._settings.kafka,
            self._settings.namespace,
            TOPICS,
            GROUP,
            max_poll_records=self._settings.features.max_poll_records,
            unhurried=[RECOMMENDATIONS],
            on_revoked=self._revoked,
        )
        self.watch.begin(consumer)
        try:
            try:
                self._progress.advance(0, self._store.watermark())
            except StoreFormatError:
                raise
            except StoreUnavailableError as error:
                log.debug("the newest event time can't be looked up", reason=str(error))
            while not stop.is_set():
                if self._archive.full or self._hold.asked_for():
                    stop.wait(_PAUSE_S)
                else:
                    batch = consumer.poll(_POLL_S)
                    self._archive.settle(consumer.topic_ids())
                    with traced(batch, self._metrics):
                        self._take(batch, consumer, stop)
                if reached := self._archive.step():
                    self._commits.add(reached)
                if not self._commits.commit_due(consumer):
                    self._read_again(consumer)
                self._verify(consumer)
                self.watch.update()
                self._progress.answer(consumer)
            self._commits.add(self._archive.drain(_DRAIN_S))
            if not self._commits.commit_all(consumer):
                self._read_again(consumer)
        finally:
            self._revoked()
            consumer.close()

    def progress(self, timeout_s: float = 1.5) -> StreamProgress:
        """The progress along the stream, asked of the broker now.

        It is not caught up when there is no answer in time.
        """
        return self._progress.ask(timeout_s)

    async def check_lake(self) -> None:
        """Readiness check that raises while the lake can't be written or searched for repeats."""
        if failure := self._archive.failure or self._outages.lake:
            raise RuntimeError(failure)

    async def check_redis(self) -> None:
        """Readiness check that raises while states can't be written."""
        if self._outages.redis:
            raise RuntimeError(self._outages.redis)

    def close(self) -> None:
        """Release the threads; call after the worker has stopped."""
        self._archive.close()
        self._asking.shutdown(wait=False, cancel_futures=True)

    def _take(self, batch: Batch, consumer: Consumer, stop: threading.Event) -> None:
        """Let a batch take effect online, and hand its rows to the archive.

        While a store is unavailable this waits, then has the consumer read again from the last
        commit: the store may have lost its last writes.
        """
        try:
            batch = self._lineages.named(batch, consumer)
            if not batch:
                self._pass_over(batch)
                return
            observe(batch, self._metrics)
            self._rollbacks.verify(batch.first_offsets)
            # Before anything is made of a late record, a dead letter too.
            timely = without_late(batch.messages, attrgetter("record"), self._store.marks.of)
            accepted, letters, late = screen(
                replace(batch, messages=timely), now_ms(), self._limits
            )
            messages, repeats = self._repeats.without(accepted.messages)
            self._outages.lake = None
            changes = self._online.apply(messages)
            self._rollbacks.advance(batch.next_offsets)
            self._outages.redis = None
        except StoreFormatError:
            raise
        except (StoreUnavailableError, LakeUnavailableError) as error:
            if self._outages.wait(error, stop):
                self._read_again(consumer)
            return
        # Sent only now: a batch that is read again before this point gives no letter each time.
        self._announcer.send_letters(letters + missed_patches(messages, changes.missed, now_ms()))
        # History reads the lake, so what had no right to an effect must not come there.
        self._archive.add(replace(accepted, messages=changes.as_history(messages)))
        self._progress.advance(len(messages), changes.newest)
        self._count(late, repeats, len(batch.messages) - len(timely), changes.people)
        self._announcer.send_updates(
            changes.visitors,
            changes.request_ids,
            self._progress.watermark,
            (each for each in messages if isinstance(each.record, Interaction)),
        )

    def _pass_over(self, batch: Batch) -> None:
        """Move on over records without a value: their offsets may have moved, and no more."""
        with contextlib.suppress(StoreUnavailableError):
            if batch.first_offsets:
                self._rollbacks.verify(batch.first_offsets)
            self._rollbacks.advance(batch.next_offsets)
            self._archive.add(batch)

    def _count(
        self, late: Mapping[int, int], repeats: int, of_erased: int, people: PeopleChanges
    ) -> None:
        for hours, events in late.items():
            self._measured.late.labels(str(hours)).inc(events)
        self._measured.repeats.inc(repeats)
        self._measured.of_erased.inc(of_erased)
        for outcome, links in people.links.items():
            self._measured.links.labels(outcome).inc(links)
        self._measured.erasures.inc(people.erasures)

    def _verify(self, consumer: Consumer) -> None:
        """Look whether Redis has lost writes, now and then: also of partitions where nothing comes.

        An unavailable Redis is ignored; the next batch checks.
        """
        if time.monotonic() < self._verify_at:
            return
        self._verify_at = time.monotonic() + _VERIFY_EVERY_S
        try:
            self._rollbacks.verify(self._lineages.positions(consumer))
        except StoreRolledBackError:
            self._read_again(consumer)
        except StoreUnavailableError:
            return

    def _read_again(self, consumer: Consumer) -> None:
        """Read again from the last commit, or from further back where Redis has lost more.

        While Redis does not say, from the last commit: the next batch is verified.
        """
        self._abandon()
        checkpoints: dict[Source, int] = {}
        with contextlib.suppress(StoreUnavailableError):
            checkpoints = self._rollbacks.resume(self._lineages.positions(consumer))
        consumer.rewind(checkpoints)
        log.info("reading again from the last commit")

    def _abandon(self) -> None:
        """Drop everything that is not committed: it will be read again, or its log is gone."""
        self._archive.abandon()
        self._commits.clear()
        self._repeats.forget()

    def _revoked(self) -> None:
        """Drop everything, before partitions go to another member.

        The client's thread calls this. It sends no heartbeat meanwhile, so there is no time to
        write.
        """
        self._abandon()
        self._rollbacks.forget()
        self._lineages.forget()
