"""Scripted visitors of a log: crawlers, monitors and load tests that act as no person does.

Four signs are looked for in the times and items of a visitor's events. Limits lie above what any
person reaches in MovieLens-100K, RSC15 and a simulated shop (docs/measurements/quality.md). Events
of the same time count once, such as the lines of an order, or the ratings of a page.

A script that is as slow and as irregular as a keen person has none of the signs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.request import GAP_MS

Rows = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]

_MINUTE_MS: Final = 60_000
# Events within ten minutes. The quickest person had 43.
_FAST, _FAST_MS = 100, 10 * _MINUTE_MS
# Different items within a day. The keenest person had 217, at different times.
_BROAD = 500
# Hours with an event, of 24 in a row. The most of a person were 10; of a simulated one, 19.
_SLEEPLESS = 22
# Gaps within visits from which on their regularity says something, and the largest variation of
# regular ones (standard deviation by mean). The most regular person had .33.
_ENOUGH_GAPS, _REGULAR = 50, 0.3
# Share of the longest gaps that do not count: a pause hides no regularity.
_PAUSES = 0.05
# Units that times may have been rounded to (ms). Gaps of a few units look more regular than they
# were.
_UNITS, _UNITS_A_GAP = (1_000, _MINUTE_MS), 10
# Share of the visitors with equal gaps (three or more) above which a log has no real times.
_LAID_OUT, _FEW_GAPS = 0.9, 3


@dataclass(frozen=True)
class ScriptedVisitors:
    """Counts of the scripted visitors of a log.

    Attributes:
        events: Number of their events that models would learn from.
        share: Share of these events among all.
        signs: Visitors by sign: `rate`, `breadth`, `hours`, `regularity`. One may have several.
    """

    visitors: int = 0
    events: int = 0
    share: float = 0.0
    signs: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """The counts in words, such as "2 visitors with 9 events (1.0 %) look scripted, by …"."""
        named = ", ".join(f"{sign} {count:,}" for sign, count in self.signs.items() if count)
        theirs = f"{self.events:,} events ({100 * self.share:.1f} %)"
        if self.visitors == 1:
            return f"1 visitor with {theirs} looks scripted, by {named}"
        return f"{self.visitors:,} visitors with {theirs} look scripted, by {named}"


def find_scripted(visitors: Rows, items: Rows, times: Rows) -> tuple[Flags, ScriptedVisitors]:
    """The scripted visitors of a log, in any order of events. Times are in ms, visitors are
    numbered from 0. Returns a mask over them, and its counts.
    """
    events = np.bincount(visitors)
    scripted = np.zeros(len(events), np.bool_)
    order = np.lexsort((times, visitors))
    of, item, at = visitors[order], items[order], times[order]
    moment = _changes(of) | _changes(at)
    of, item, at = of[moment], item[moment], at[moment]
    gaps = _Gaps.of(of, at)
    if not len(at) or gaps.laid_out():
        return scripted, ScriptedVisitors()
    met = _first_of_day(of, item, at)
    hour = at // HOUR_MS
    begins = _changes(of) | _changes(hour)
    signs = {
        "rate": _within(of, at, _FAST, _FAST_MS),
        "breadth": _within(of[met], at[met], _BROAD, DAY_MS),
        "hours": _within(of[begins], hour[begins], _SLEEPLESS, 24),
        "regularity": gaps.regular(of, at),
    }
    scripted[np.concatenate(list(signs.values()))] = True
    theirs = int(events[scripted].sum())
    counts = {sign: len(found) for sign, found in signs.items()}
    return scripted, ScriptedVisitors(int(scripted.sum()), theirs, theirs / len(times), counts)


def _changes(values: Rows) -> Flags:
    """Mask of the values that differ from the one before; the first does."""
    changed = np.ones(len(values), np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _within(visitors: Rows, at: Rows, number: int, span: int) -> Rows:
    """The visitors with this number of rows within a span. Rows go by visitor, then time."""
    first, last = slice(None, max(0, len(at) - number + 1)), slice(number - 1, None)
    found = (visitors[first] == visitors[last]) & (at[last] - at[first] < span)
    return np.unique(visitors[first][found])


def _first_of_day(visitors: Rows, items: Rows, at: Rows) -> Flags:
    """Mask of the events on an item that the visitor did not meet in the day before."""
    order = np.lexsort((at, items, visitors))
    since = np.diff(at[order], prepend=0)
    first = np.ones(len(at), np.bool_)
    first[order] = _changes(visitors[order]) | _changes(items[order]) | (since >= DAY_MS)
    return first


@dataclass(frozen=True)
class _Gaps:
    """The gaps within visits (ms), by visitor, then length; `number` is that of each visitor."""

    visitor: Rows
    length: Rows
    number: Rows

    @classmethod
    def of(cls, visitors: Rows, at: Rows) -> "_Gaps":
        """The gaps of rows that go by visitor, then time."""
        gaps = np.diff(at)
        within = (visitors[1:] == visitors[:-1]) & (gaps < GAP_MS)
        visitor, length = visitors[1:][within], gaps[within]
        order = np.lexsort((length, visitor))
        count = int(visitors.max(initial=-1)) + 1
        return cls(visitor[order], length[order], np.bincount(visitor, minlength=count))

    def laid_out(self) -> bool:
        """Whether nearly all visitors have equal gaps: the times were made up to keep an order."""
        some = self.number >= _FEW_GAPS
        end = np.cumsum(self.number)[some]
        equal = self.length[end - self.number[some]] == self.length[end - 1]
        return bool(len(equal)) and float(equal.mean()) > _LAID_OUT

    def regular(self, visitors: Rows, at: Rows) -> Rows:
        """The visitors with many gaps that hardly vary, and are long for the unit of their times.

        The rows go by visitor, then time.
        """
        count = len(self.number)
        rank = np.arange(len(self.length)) - (np.cumsum(self.number) - self.number)[self.visitor]
        kept = rank < np.ceil((1 - _PAUSES) * self.number[self.visitor])
        of, gaps = self.visitor[kept], self.length[kept].astype(np.float64)
        number = np.maximum(np.bincount(of, minlength=count), 1)
        mean = np.bincount(of, gaps, count) / number
        deviation = np.sqrt(np.bincount(of, (gaps - mean[of]) ** 2, count) / number)
        unit = np.ones(count)
        for size in _UNITS:
            unit[np.bincount(visitors, at % size != 0, count) == 0] = size
        regular = (deviation < _REGULAR * mean) & (mean >= _UNITS_A_GAP * unit)
        return np.flatnonzero(regular & (self.number >= _ENOUGH_GAPS))
