"""Expiries: the moments from which items may no longer be shown."""

import heapq
import math
from collections.abc import Iterator
from typing import Final

# Outdated moments that may lie in the heap beside twice the items that expire.
SURPLUS: Final = 1_000


class Expiries:
    """The moment (ms) at which each item expires, the earliest first."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        # Outdated moments stay, until most of them are.
        self._heap: list[tuple[float, str]] = []

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
