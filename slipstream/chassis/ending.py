"""The end that a service asks for itself, from whichever thread finds that it can't go on."""

import threading
from collections.abc import Callable

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)


class Ending:
    """Ends one service. `reason` is empty until somebody asked for the end; the process then ends
    with a non-zero status.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._asking = threading.Lock()
        self._end: Callable[[], None] = lambda: None

    def calls(self, end: Callable[[], None]) -> None:
        """Have `end` called, by any thread, when the end is asked for."""
        self._end = end

    def ask(self, reason: str) -> None:
        """End the service; `reason` is one sentence for its log. Asked twice, the first reason
        counts. Safe from any thread.
        """
        with self._asking:
            if self.reason:
                return
            self.reason = reason
        log.critical("the service ends", reason=reason)
        self._end()
