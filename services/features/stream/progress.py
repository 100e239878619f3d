"""Progress along the stream, and answers to questions about it."""

import threading
from dataclasses import dataclass, replace

from services.features.metrics import FeaturesMetrics
from services.features.stream.archive import Archive
from slipstream.broker.consumer import Consumer
from slipstream.broker.watch import ConsumerWatch


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
        self._progress = StreamProgress(before.applied + applied, before.lag, watermark, False)
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
            self._progress = StreamProgress(before.applied, lag, before.watermark, caught_up)
            self._answered = questions
            self._answers.notify_all()
