"""How soon a child that died is started again: at once, unless it does nothing but die."""

from collections import deque

# So many deaths within `WINDOW_S` are each made good at once; each one more doubles the pause.
AT_ONCE, WINDOW_S = 5, 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0


class Restarts:
    """The deaths of one child. It is never given up: what it dies of may pass, and pauses keep that
    cheap.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=100)

    def pause_after(self, now: float) -> float:
        """It died at `now` (seconds of a clock that never goes back): the seconds to wait before it
        starts again.
        """
        self._deaths.append(now)
        while self._deaths[0] <= now - WINDOW_S:
            self._deaths.popleft()
        return min(FIRST_PAUSE_S * 2.0 ** max(0, len(self._deaths) - AT_ONCE), LONGEST_PAUSE_S)
