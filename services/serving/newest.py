"""The newest items of the catalogue, by the time at which each appeared in it."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.serving.growing import GrowingArray
from slipstream.models.base import Mask

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
        self._changes = 0
        self._made_at, self._made_of = float("-inf"), (-1, -1)
        self._list: Sequence[tuple[str, float]] = ()

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
            self._changes += 1

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
        made_of = (self._changes, visibility)
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
