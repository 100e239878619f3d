"""Sums of answers by time, model, step and variant, with sketches of their latency.

They add up over any of these. A sketch counts latencies in bins of one relative width, as DDSketch
does (C. Masson, J. Rim, H. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019). Pure functions.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, log, sqrt
from typing import Final, NamedTuple

import numpy as np

from slipstream.contracts.slates import RecordedSlate

# Lengths of the times that answers are summed by. A guard looks from a change of its experiment on,
# so its times are shorter.
MINUTE_MS: Final = 60_000
EXPERIMENT_STEP_MS: Final = 10_000
# Upper end of a bin, as a multiple of its lower one.
_WIDTH: Final = 1.02
_LOG_WIDTH: Final = log(_WIDTH)
# Shorter latencies count as this long, and longer ones than ten hours as these.
_LEAST_MS: Final = 0.001
_MOST_MS: Final = 36e6
_PACKED: Final = np.dtype([("bin", "<i2"), ("count", "<u4")])


@dataclass(slots=True)
class Latencies:
    """Latencies in ms: their number, sum, sum of squares, and counts by bin.

    A bin's number is the power of `_WIDTH` that is its upper end.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, values: Iterable[float]) -> "Latencies":
        """The sketch of these latencies."""
        made = cls()
        for value in values:
            made.add(value)
        return made

    @classmethod
    def unpacked(cls, count: int, total: float, squares: float, packed: bytes) -> "Latencies":
        """The sketch of bins that were `packed`; those of several add up, one after another."""
        pairs = np.frombuffer(packed, _PACKED)
        bins, places = np.unique(pairs["bin"], return_inverse=True)
        counts = np.bincount(places, pairs["count"], len(bins)).astype(np.int64)
        both = zip(bins.tolist(), counts.tolist(), strict=True)
        return cls(count, total, squares, Counter(dict(both)))

    def packed(self) -> bytes:
        """The bins in six bytes each."""
        return np.array(sorted(self.bins.items()), _PACKED).tobytes()

    def add(self, ms: float) -> None:
        """Add a latency; one of 0 or less was not measured."""
        if ms > 0:
            self.count += 1
            self.total += ms
            self.squares += ms * ms
            self.bins[ceil(log(min(max(ms, _LEAST_MS), _MOST_MS)) / _LOG_WIDTH)] += 1

    def merge(self, other: "Latencies") -> None:
        """Add the latencies of another sketch."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.bins.update(other.bins)

    @property
    def mean_ms(self) -> float:
        """The mean, of at least one latency."""
        return self.total / self.count

    @property
    def error_ms(self) -> float:
        """The standard error of the mean."""
        squares = max(self.squares - self.total**2 / self.count, 0.0)
        return sqrt(squares / max(self.count - 1, 1) / self.count)

    def quantile(self, share: float) -> float:
        """The end of the bin with the least latency (ms) that this share of all does not exceed.

        That is at most 2 % more than the latency. There must be one.
        """
        left = max(1, ceil(share * self.count))
        for number, count in sorted(self.bins.items()):
            left -= count
            if left <= 0:
                return float(_WIDTH**number)
        raise ValueError("there is no latency")

    def slower(self, bound_ms: float) -> int:
        """The number of latencies that are surely longer: their whole bin is."""
        return sum(
            count for number, count in self.bins.items() if _WIDTH ** (number - 1) >= bound_ms
        )


# The step, as answers are summed by, of visitors without a history. The model can't answer them, so
# they say nothing of it.
FIRST_VISIT: Final = "first_visit"


class AnswerKey(NamedTuple):
    """What answers are summed by; `start` is the beginning of their time (ms).

    `answered_by` is the step, or `FIRST_VISIT`. `variant` is empty outside an experiment, and
    `substituted` says why the champion made a list for a variant's model.
    """

    start: int
    model_version: str
    answered_by: str
    experiment: str
    variant: str
    substituted: str


class Answer(NamedTuple):
    """An answer with its position on the topic, reduced to what is summed."""

    source: str
    offset: int
    key: AnswerKey
    items: int
    latency_ms: float

    @classmethod
    def of(cls, slate: RecordedSlate, source: str, offset: int) -> "Answer":
        step = EXPERIMENT_STEP_MS if slate.experiment else MINUTE_MS
        # No features are recorded where the online store did not tell of the visitor.
        is_new = slate.answered_by != "model" and slate.features.get("history_length") == 0.0
        key = AnswerKey(
            slate.timestamp - slate.timestamp % step,
            slate.model_version or "",
            FIRST_VISIT if is_new else slate.answered_by,
            slate.experiment,
            slate.variant if slate.experiment else "",
            slate.substituted,
        )
        return cls(source, offset, key, len(slate.items), slate.latency_ms)


@dataclass(slots=True)
class AnswerSums:
    """The sums of some answers. `shown` have items."""

    slates: int = 0
    shown: int = 0
    items: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, answer: Answer) -> None:
        """Add an answer."""
        self.slates += 1
        self.shown += answer.items > 0
        self.items += answer.items
        self.latencies.add(answer.latency_ms)

    def merge(self, other: "AnswerSums") -> None:
        """Add other sums to these."""
        self.slates += other.slates
        self.shown += other.shown
        self.items += other.items
        self.latencies.merge(other.latencies)
