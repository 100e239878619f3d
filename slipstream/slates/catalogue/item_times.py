"""Times of the catalogue's items (ms): when each appeared, and from when on it may not be shown."""

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.times import parse_iso
from slipstream.models.base import Mask
from slipstream.slates.catalogue.growing import GrowingArray, Room

# Items of the list: enough for a filter that one item in a hundred meets.
KEPT: Final = 5_000
# Greatest age of the list while the catalogue changes, so that a catalogue which changes all the
# time costs a sort a second, not one a request.
FRESH_S: Final = 1.0


class NewestItems:
    """Times at which items appeared (ms), by row, and the list of the latest that may be shown.

    Written by one thread, read by others.

    Args:
        kept: Length of the list.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept, self._clock = kept, clock
        self._appeared = GrowingArray(np.float64, -np.inf)
        self.changes = 0
        self._made_at, self._made_of = float("-inf"), (-1, -1)
        self._list: Sequence[tuple[str, float]] = ()

    def room(self) -> Room:
        """The times in an array."""
        return self._appeared.room()

    def restore(self, room: Room) -> None:
        """Take these times in the place of all that are here."""
        self._appeared = GrowingArray.restore(-np.inf, room)
        self.changes += 1

    def appeared(self, row: int) -> float:
        """The time at which the item of a row appeared."""
        return float(self._appeared.get(row))

    def times(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The times at which the items of these rows appeared."""
        return self._appeared.at(rows.astype(np.int32))

    def put(self, row: int, appeared: float) -> None:
        """Set the time at which the item of a row appeared."""
        if self._appeared.get(row) != appeared:
            self._appeared.put(row, appeared)
            self.changes += 1

    def put_earlier(self, row: int, appeared: float) -> None:
        """The same, where this time is earlier than the one that is kept."""
        self.put(row, min(appeared, self.appeared(row)))

    def latest(
        self, item_ids: Sequence[str], shown: Mask, visibility: int
    ) -> Sequence[tuple[str, float]]:
        """Ids and times of the latest items that may be shown, newest first.

        Of equally new ones the lesser id comes first, so that all processes give the same list.

        Args:
            item_ids: Item ids by row.
            shown: Whether the item of a row may be shown.
            visibility: A number that changes with `shown`.
        """
        made_of = (self.changes, visibility)
        now = self._clock()
        if made_of != self._made_of and now - self._made_at >= FRESH_S:
            appeared = self._appeared.values
            size = min(len(appeared), len(shown))
            rows = np.flatnonzero(shown[:size])
            if len(rows) > self._kept:
                rows = rows[np.argpartition(-appeared[rows], self._kept)[: self._kept]]
            found = [(item_ids[row], float(appeared[row])) for row in rows.tolist()]
            self._list = sorted(found, key=lambda entry: (-entry[1], entry[0]))
            self._made_of, self._made_at = made_of, now
        return self._list


def appeared_at(record: CatalogRecord) -> float:
    """The time (ms) at which an item appeared: that of its first record, or of an earlier
    publication.
    """
    appeared = record.timestamp if record.appeared_at is None else record.appeared_at
    published = milliseconds(record.attributes.get("published_at"))
    return published if 0 <= published < appeared else appeared


def milliseconds(moment: Any) -> float:
    """A time in ms; infinity for none, and for a value that is no time."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    try:
        return parse_iso(moment)
    except (TypeError, ValueError):
        return math.inf


def wall_clock() -> float:
    """The time now."""
    return time.time() * 1000


# Outdated moments that may lie in the heap beside twice the items that expire.
SURPLUS: Final = 1_000


class Expiries:
    """The moment (ms) at which each item expires, the earliest first."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        # Outdated moments stay, until most of them are.
        self._heap: list[tuple[float, str]] = []

    def moments(self) -> dict[str, float]:
        """A copy of all moments to come, by item."""
        return self._moments.copy()

    def put(self, item_id: str, moment: float, now: float) -> None:
        """Have an item expire at this moment, instead of an earlier told one; infinity is never."""
        if not now < moment < math.inf:
            self._moments.pop(item_id, None)
            return
        self._moments[item_id] = moment
        heapq.heappush(self._heap, (moment, item_id))
        if len(self._heap) > 2 * len(self._moments) + SURPLUS:
            self._heap = [(each, name) for name, each in self._moments.items()]
            heapq.heapify(self._heap)

    def due(self, now: float) -> bool:
        """Whether there may be items to take."""
        return bool(self._heap) and self._heap[0][0] <= now

    def take(self, now: float) -> Iterator[str]:
        """The items that have expired, each once."""
        while self.due(now):
            moment, item_id = heapq.heappop(self._heap)
            if self._moments.get(item_id) == moment:
                del self._moments[item_id]
                yield item_id
