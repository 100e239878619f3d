"""Pauses before a child that died is started again: short at first, longer if it keeps dying."""

from collections import deque

from slipstream.chassis.pauses import pause_after

# Number of deaths within `WINDOW_S` after which the shortest pause follows; each further death
# doubles it.
AT_ONCE, WINDOW_S = 5, 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0


class Restarts:
    """The recent deaths of one child.

    There is no last attempt: the cause may pass, and pauses keep the attempts cheap.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=100)

    def pause_after(self, now: float) -> float:
        """Record a death, and return the seconds to wait before the next start.

        `now` is in seconds of a monotonic clock.
        """
        self._deaths.append(now)
        while self._deaths[0] <= now - WINDOW_S:
            self._deaths.popleft()
        failures = max(0, len(self._deaths) - AT_ONCE) + 1
        return pause_after(failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)
