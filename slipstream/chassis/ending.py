"""The end of a service that can't go on, which any of its threads may ask for."""

import threading
from collections.abc import Callable

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)


class Ending:
    """Ends one service, with a non-zero status of the process; any thread may ask for it.

    `reason` is empty until then.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._asking = threading.Lock()
        self._end: Callable[[], None] = lambda: None

    def calls(self, end: Callable[[], None]) -> None:
        """Have `end` called, by any thread, when the end is requested; at once if it has been."""
        with self._asking:
            self._end, asked = end, bool(self.reason)
        if asked:
            end()

    def ask(self, reason: str) -> None:
        """End the service, for a reason in one sentence. The first reason counts."""
        with self._asking:
            if self.reason:
                return
            self.reason, end = reason, self._end
        log.critical("the service ends", reason=reason)
        end()
