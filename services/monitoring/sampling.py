"""Samples of slates: the first slate of each visitor in a window, of so many visitors at most.

A visitor counts once in a window, so a crawler weighs as much as anyone. Beyond the most visitors,
a share of them is taken by a hash of their ids: the sample is of the whole window, and costs the
same at any rate. The rows are kept until the window ends, and then folded into sketches
(`windows.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.monitoring.item_attributes import ItemCatalogue, place_of
from services.monitoring.slate_readings import NewestEvent, readings_of, visitor_of
from slipstream.contracts.events import Interaction
from slipstream.contracts.page_visitors import page_visitor
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.vocabulary import SHOWN, WITHOUT_SIGNAL

# Windows of a length that are open at once: slates of several partitions arrive out of order.
_OPEN: Final = 8
# Visitors with a known newest event; the ones that were longest without an event go first.
_NEWEST: Final = 20_000
# Part of the most visitors that a share is chosen for, so that a busier window still fits.
_ROOM: Final = 0.8


class Sample(NamedTuple):
    """The readings of a visitor in a window.

    Attributes:
        length_ms: Length of the window.
        start: Its beginning (ms).
        visitor: Key of the visitor.
        user_id: Visitor of the slate, by which an erasure finds the row.
        share: Share of visitors that were sampled then.
        body: The readings as JSON.
    """

    length_ms: int
    start: int
    visitor: str
    user_id: str
    share: float
    body: str


class _Windows:
    """The open windows of one length: the visitors that were sampled, and the share of them."""

    def __init__(self, most: int) -> None:
        self.share = 1.0
        self._most = most
        self._seen: dict[int, set[str]] = {}

    def wants(self, start: int, visitor: str, place: float) -> bool:
        if place >= self.share:
            return False
        return visitor not in self._seen.get(start, ())

    def add(self, start: int, visitor: str) -> None:
        if start not in self._seen:
            self._begin(start)
        seen = self._seen[start]
        seen.add(visitor)
        if len(seen) >= self._most:
            # Visitors beyond the smaller share are left out when the window is folded.
            self.share /= 2
            self._seen[start] = {each for each in seen if place_of(each) < self.share}

    def _begin(self, start: int) -> None:
        last = max(self._seen, default=None)
        if last is not None and start > last and (known := len(self._seen[last])):
            self.share = min(1.0, self.share * _ROOM * self._most / known)
        if len(self._seen) >= _OPEN:
            del self._seen[min(self._seen)]
        self._seen[start] = set()


class Sampler:
    """Takes samples of the records that are read. One thread uses it.

    Args:
        most: Most visitors of a window.
    """

    def __init__(self, lengths_ms: Iterable[int], most: int, catalogue: ItemCatalogue) -> None:
        self._windows = {length: _Windows(most) for length in lengths_ms}
        self._catalogue = catalogue
        self._newest: dict[str, NewestEvent] = {}
        self._expected_items = 0

    def expect(self, items: int) -> None:
        """Take the catalogue for read in part only while it has less than half of these items."""
        self._expected_items = items

    def take(self, records: Iterable[Any]) -> list[Sample]:
        """The samples of a batch. Tell `keep` of those that were stored."""
        slates = []
        for record in records:
            if isinstance(record, Interaction):
                self._note(record)
            elif isinstance(record, RecordedSlate) and record.purpose == SHOWN:
                slates.append(record)
        taken: dict[tuple[int, int, str], Sample] = {}
        known = self._catalogue if self._is_known() else None
        for slate in slates:
            visitor = visitor_of(slate)
            place = place_of(visitor)
            body = ""
            for length, windows in self._windows.items():
                start = slate.timestamp - slate.timestamp % length
                key = length, start, visitor
                if key in taken or not windows.wants(start, visitor, place):
                    continue
                if not body:
                    readings = readings_of(slate, known, self._newest.get(slate.user_id))
                    body = msgspec.json.encode(readings).decode()
                taken[key] = Sample(*key, slate.user_id, windows.share, body)
        return list(taken.values())

    def keep(self, samples: Sequence[Sample]) -> None:
        """Remember that these are stored: later slates of the visitors are passed over."""
        for each in samples:
            self._windows[each.length_ms].add(each.start, each.visitor)

    def _is_known(self) -> bool:
        seen = self._catalogue.seen() if self._catalogue.caught_up else 0
        return seen > 0 and seen * 2 >= self._expected_items

    def _note(self, event: Interaction) -> None:
        """Remember the newest event that a later slate's history should have."""
        if event.item_id is None or event.imported or event.event_type in WITHOUT_SIGNAL:
            return
        # Slates are requested with the page's anonymous id.
        visitor = page_visitor(event.user_id)
        self._newest.pop(visitor, None)
        self._newest[visitor] = NewestEvent(event.item_id, event.received_at)
        if len(self._newest) > _NEWEST:
            del self._newest[next(iter(self._newest))]
