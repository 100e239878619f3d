"""Circuit breakers: whether somebody is asked who has failed lately."""

import time
from collections.abc import Callable

# Failures in a row after which a server is not asked any more: more than one lost packet brings.
# Reads that began before the last one failed are no further ones: they may have shared its command.
FAILURES = 3
# Time until it is asked again, and after each such try.
PAUSE_S = 0.5


class CircuitBreaker:
    """Whether a server is asked: not after failures in a row, but for a probe now and then.

    Args:
        changed: Told whether the circuit is open now.
        clock: Seconds of a monotonic clock.
        failures: Failures in a row that open the circuit.
        pause_s: Time until the first probe, and after each.
    """

    def __init__(
        self,
        changed: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._changed, self.now = changed, clock
        self._most, self._pause_s = failures, pause_s
        self._failures, self._failed_at, self._probe_at = 0, float("-inf"), 0.0
        self.open = False

    def succeeded(self) -> None:
        self._failures = 0
        if self.open:
            self.open = False
            self._changed(False)

    def failed(self, began: float) -> None:
        """Count the failure of a read that began at this time."""
        now = self.now()
        self._probe_at = now + self._pause_s
        if began < self._failed_at:
            return
        self._failures, self._failed_at = self._failures + 1, now
        if not self.open and self._failures >= self._most:
            self.open = True
            self._changed(True)

    def takes_probe(self) -> bool:
        """Whether a probe is due; the next one is due after a pause."""
        if not self.open or self.now() < self._probe_at:
            return False
        self._probe_at = self.now() + self._pause_s
        return True
